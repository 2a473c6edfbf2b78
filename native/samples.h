// Samples of contiguous entries, evenly strided: their exponents, and how far they move.
#pragma once
#include <cmath>
#include <cstring>
#include "levels.h"

// The bins of histogram.py: exponents from LOWEST on, the outermost hold what lies beyond.
constexpr int LOWEST = -150, BINS = 279;

template <class T> struct Format;
template <> struct Format<float> { typedef uint32_t U; static constexpr int digits = 23, bits = 8; };
template <> struct Format<double> { typedef uint64_t U; static constexpr int digits = 52, bits = 11; };
template <> struct Format<Half> { typedef uint16_t U; static constexpr int digits = 10, bits = 5; };
template <> struct Format<Brain> { typedef uint16_t U; static constexpr int digits = 7, bits = 8; };

template <class T>
void exponents(const void* data, size_t count, size_t step, int64_t* bins) {
    typedef typename Format<T>::U U;
    constexpr int digits = Format<T>::digits, stored = 1 << Format<T>::bits, bias = stored / 2 - 1;
    // Two tables, as neighbours often have the same exponent and would wait for each other.
    int32_t counts[2][stored] = {};
    const char* from = (const char*)data;
    for (size_t place = 0; place < count; ++place, from += step * sizeof(T)) {
        U word;
        std::memcpy(&word, from, sizeof word);
        unsigned exponent = (unsigned)(word >> digits) & (stored - 1);
        if (exponent == 0) {
            U fraction = word & (((U)1 << digits) - 1);
            if (!fraction) continue;
            int below = 1 - bias - digits + (int)std::floor(std::log2((double)fraction));
            int bin = below - LOWEST;
            ++bins[bin < 0 ? 0 : bin];
            continue;
        }
        ++counts[place & 1][exponent];
    }
    for (int exponent = 1; exponent < stored - 1; ++exponent) {
        int bin = exponent - bias - LOWEST;
        bin = bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
        bins[bin] += counts[0][exponent] + counts[1][exponent];
    }
}

template <class T> void sample(const void* data, size_t count, size_t step, double* to) {
    const T* from = (const T*)data;
    for (size_t place = 0; place < count; ++place) to[place] = base::single(from + place * step);
}

// Sum of squares before, of the change since then, and of the product of both.
template <class T> void change(const void* data, size_t count, size_t step, const double* before,
                               double* found) {
    const T* from = (const T*)data;
    double square = 0, moved = 0, along = 0;
    for (size_t place = 0; place < count; ++place) {
        double was = before[place], by = base::single(from + place * step) - was;
        square += was * was;
        moved += by * by;
        along += was * by;
    }
    found[0] = square;
    found[1] = moved;
    found[2] = along;
}

template <class... Arguments> using PerDtype = void (*[4])(const void*, size_t, size_t, Arguments...);
constexpr PerDtype<int64_t*> exponents_of = {exponents<float>, exponents<double>, exponents<Half>,
                                             exponents<Brain>};
constexpr PerDtype<double*> sample_of = {sample<float>, sample<double>, sample<Half>, sample<Brain>};
constexpr PerDtype<const double*, double*> change_of = {change<float>, change<double>, change<Half>,
                                                        change<Brain>};
