// Samples of entries: their exponents, and how far they move.
#pragma once
#include <cmath>
#include <cstring>
#include "layout.h"
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

// Evenly spaced short runs of entries of one tensor, as in statistics/moves.py; all of a small one.
constexpr size_t SAMPLE = 1024, SAMPLE_RUN = 8;

template <class T, class Action> void each_sampled(const void* data, size_t entries, Action action) {
    const T* from = (const T*)data;
    if (entries <= SAMPLE) return action(from, entries);
    each_spread(from, entries, SAMPLE / SAMPLE_RUN, SAMPLE_RUN, action);
}

template <class T> void take(const void* data, size_t entries, double* to) {
    each_sampled<T>(data, entries, [&](const T* from, size_t count) {
        for (size_t place = 0; place < count; ++place) *to++ = base::single(from + place);
    });
}

// Squares of what entries were, squares of what they have changed by since, and their number.
template <class T> void compare(const void* data, size_t entries, const double* before,
                                double* found) {
    double square[SAMPLE_RUN] = {}, moved[SAMPLE_RUN] = {};  // sums that do not wait for each other
    size_t total = 0;
    auto add = [&](const T* from, size_t count) {
        for (size_t place = 0; place < count; ++place) {
            double was = before[total + place], by = base::single(from + place) - was;
            square[place] += was * was;
            moved[place] += by * by;
        }
        total += count;
    };
    each_sampled<T>(data, entries, [&](const T* from, size_t count) {
        for (; count > SAMPLE_RUN; count -= SAMPLE_RUN, from += SAMPLE_RUN) add(from, SAMPLE_RUN);
        add(from, count);
    });
    for (size_t lane = 0; lane < SAMPLE_RUN; ++lane) found[0] += square[lane], found[1] += moved[lane];
    found[2] = (double)total;
}

constexpr void (*exponents_of[])(const void*, size_t, size_t, int64_t*) = {
    exponents<float>, exponents<double>, exponents<Half>, exponents<Brain>};
constexpr void (*take_of[])(const void*, size_t, double*) = {take<float>, take<double>, take<Half>,
                                                             take<Brain>};
constexpr void (*compare_of[])(const void*, size_t, const double*, double*) = {
    compare<float>, compare<double>, compare<Half>, compare<Brain>};
