// Row: the columns of statistics/columns.py, how they begin and how two become one.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>

enum Column {
    COUNT, NONFINITE, ZERO, POSITIVE, SUM, SUM_SQ, SUM_ABS, SUM_4, MIN, MAX, SCALE, BELOW, ABOVE, COLUMNS
};

enum Dtype { FLOAT32, FLOAT64, FLOAT16, BFLOAT16 };

struct Half { uint16_t bits; };
struct Brain { uint16_t bits; };

inline size_t item_size(int dtype) { return dtype == FLOAT64 ? 8 : dtype == FLOAT32 ? 4 : 2; }

inline void clear(double* row) {
    for (int column = 0; column < COLUMNS; ++column) row[column] = 0.0;
    row[MIN] = INFINITY;
    row[MAX] = -INFINITY;
}

inline void rescale(double* row, double factor) {
    row[SUM] *= factor;
    row[SUM_ABS] *= factor;
    row[SUM_SQ] = row[SUM_SQ] * factor * factor;
    row[SUM_4] = row[SUM_4] * factor * factor * factor * factor;
}

// Adds the second row to the first one, as `merge` does; the second is spoilt.
inline void merge(double* into, double* from) {
    double one = into[SUM_ABS] > 0 ? into[SCALE] : 0.0, other = from[SUM_ABS] > 0 ? from[SCALE] : 0.0;
    double scale = one > other ? one : other;
    if (one != other && scale > 0) {
        rescale(into, one / scale);
        rescale(from, other / scale);
    }
    double low = from[MIN] < into[MIN] ? from[MIN] : into[MIN];
    double high = from[MAX] > into[MAX] ? from[MAX] : into[MAX];
    for (int column = 0; column < COLUMNS; ++column) into[column] += from[column];
    into[MIN] = low;
    into[MAX] = high;
    into[SCALE] = scale > 0 ? scale : into[COUNT] > 0 ? 1.0 : 0.0;
}

// The two thresholds, in each type in which entries are looked at; NaN: none.
struct Ends {
    double low, high;
    float low_single, high_single;

    Ends(double low, double high)
        : low(low), high(high), low_single((float)low), high_single((float)high) {}
    bool any() const { return low == low || high == high; }
    void get(double& bottom, double& top) const { bottom = low, top = high; }
    void get(float& bottom, float& top) const { bottom = low_single, top = high_single; }
};

// What is being summed up, and how.
struct Pass {
    Ends ends;
    double inverse = 1.0;  // by which entries are multiplied before their powers are taken
    double row[COLUMNS];

    explicit Pass(const Ends& ends, double scale = 1.0) : ends(ends), inverse(1 / scale) {
        clear(row);
        row[SCALE] = scale;
    }
};

// The passes over contiguous entries, per dtype, for one level of instructions.
struct Level {
    void (*add[4])(const void*, size_t, Pass&);
    bool (*any_alive[4])(const void*, size_t, const Ends&);
    size_t (*still_flat[4])(const void*, ptrdiff_t, size_t*, size_t, const Ends&);
};
