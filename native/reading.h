// Reading: tensors into rows and flags, by whatever level of instructions is used.
#pragma once
#include <algorithm>
#include <thread>
#include <vector>

#include "layout.h"
#include "levels.h"

constexpr size_t SHARED = 1 << 19;     // entries per thread, at the least
constexpr size_t PIECE = 1 << 26;      // entries of one pass: its counters hold 32 bits
constexpr double SAFE[] = {0x1p-200, 0x1p200};  // as in columns.py
constexpr double LIMIT = 0x1p1020;

inline int level_used = 0;

inline void add(const char* data, int dtype, size_t count, Pass& pass) {
    const Level& level = *levels[level_used];
    for (size_t done = 0; done < count; done += PIECE)
        level.add[dtype](data + done * item_size(dtype), std::min(PIECE, count - done), pass);
}

// Adds contiguous entries to a pass, a part of them on each of several threads.
inline void add_shared(const char* data, int dtype, size_t count, Pass& pass, size_t threads) {
    threads = std::min(threads, count / SHARED);
    if (threads < 2) return add(data, dtype, count, pass);
    std::vector<Pass> parts(threads, Pass(pass.ends));
    std::vector<std::thread> others;
    size_t share = count / threads;
    auto work = [&](size_t part) {
        Flushed flushed;
        parts[part].inverse = pass.inverse;
        parts[part].row[SCALE] = pass.row[SCALE];
        size_t size = part + 1 < threads ? share : count - part * share;
        add(data + part * share * item_size(dtype), dtype, size, parts[part]);
    };
    size_t started = 1;
    try {
        for (; started < threads; ++started) others.emplace_back(work, started);
    } catch (...) {  // no more threads to be had: this one does the rest
    }
    work(0);
    for (size_t part = started; part < threads; ++part) work(part);
    for (std::thread& other : others) other.join();
    for (Pass& part : parts) merge(pass.row, part.row);
}

// Not inlined: the compiler knows nothing of Flushed, and would round `ends` to float after it.
[[gnu::noinline]] inline void read_into(double* row, const char* data, int dtype, const Layout& layout,
               const Ends& ends, size_t threads) {
    auto all = [&](Pass& pass) {
        each_block(data, layout, item_size(dtype), [&](const char* from, size_t count) {
            add_shared(from, dtype, count, pass, threads);
            return true;
        });
    };
    Flushed flushed;
    Pass pass(ends);
    all(pass);
    double most = std::max(-pass.row[MIN], pass.row[MAX]);
    if (dtype == FLOAT64 && most > 0 && (most < SAFE[0] || most > SAFE[1])) {
        int exponent;
        std::frexp(most, &exponent);
        double scale = std::min(std::max(std::ldexp(1.0, std::min(exponent, 1023)), 1 / LIMIT), LIMIT);
        pass = Pass(ends, scale);
        all(pass);
    }
    merge(row, pass.row);
}

// Raises the flags of units, FLAT = 1 and ALIVE = 2, to what their entries say.
inline void raise(uint8_t* flags, const char* data, int dtype, const Layout& others, size_t units,
           ptrdiff_t step, const Ends& ends) {
    size_t item = item_size(dtype), length = others.axes ? others.size[others.axes - 1] : 1;
    ptrdiff_t stride = others.axes ? others.stride[others.axes - 1] : 1;
    if (!others.entries()) return;
    const Level& level = *levels[level_used];
    std::vector<size_t> flat;
    for (size_t unit = 0; unit < units; ++unit)
        if (flags[unit] < 2) flat.push_back(unit);
    size_t left = flat.size();
    auto at = [&](ptrdiff_t place) { return data + place * (ptrdiff_t)item; };
    if (others.axes && stride == 1 && step > 1) {  // unit by unit, until an entry is alive
        left = 0;
        for (size_t unit : flat) {
            ptrdiff_t first = (ptrdiff_t)unit * step;
            if (each_run(others, [&](ptrdiff_t offset) {
                    return !level.any_alive[dtype](at(first + offset), length, ends);
                }))
                flat[left++] = unit;
        }
    } else {  // sample by sample, until no unit is left
        each_run(others, [&](ptrdiff_t offset) {
            for (size_t place = 0; place < length && left; ++place)
                left = level.still_flat[dtype](at(offset + (ptrdiff_t)place * stride), step,
                                               flat.data(), left, ends);
            return left > 0;
        });
    }
    for (size_t unit = 0, place = 0; unit < units; ++unit) {
        bool stays = place < left && flat[place] == unit;
        place += stays;
        flags[unit] = stays ? 1 : 2;
    }
}
