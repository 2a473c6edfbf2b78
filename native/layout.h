// Layout: tensors of any strides as runs of contiguous entries.
#pragma once
#include <cstring>
#include "row.h"

constexpr int MAX_AXES = 64;  // torch allows no more
constexpr size_t GATHERED = 1024;  // entries of a piece, to which shorter runs are gathered

// The axes of a tensor by falling stride, neighbours that lie in one made one.
struct Layout {
    int axes = 0;
    size_t size[MAX_AXES];
    ptrdiff_t stride[MAX_AXES];  // in entries

    size_t entries() const {
        size_t found = 1;
        for (int axis = 0; axis < axes; ++axis) found *= size[axis];
        return found;
    }

    // Puts an axis at its place.
    void insert(size_t length, ptrdiff_t step) {
        if (length == 1) return;
        int place = axes++;
        for (; place > 0 && stride[place - 1] < step; --place) {
            size[place] = size[place - 1];
            stride[place] = stride[place - 1];
        }
        size[place] = length;
        stride[place] = step;
    }

    void join() {
        int kept = 0;
        for (int axis = 0; axis < axes; ++axis) {
            if (kept && stride[kept - 1] == stride[axis] * (ptrdiff_t)size[axis]) {
                size[kept - 1] *= size[axis];
                stride[kept - 1] = stride[axis];
            } else {
                size[kept] = size[axis];
                stride[kept++] = stride[axis];
            }
        }
        axes = kept;
    }
};

// Every run along the last axis: calls action(offset of its first entry) until it returns false.
template <class Action> bool each_run(const Layout& layout, Action action) {
    size_t index[MAX_AXES] = {};
    ptrdiff_t offset = 0;
    for (;;) {
        if (!action(offset)) return false;
        int axis = layout.axes - 2;
        for (; axis >= 0; --axis) {
            offset += layout.stride[axis];
            if (++index[axis] < layout.size[axis]) break;
            offset -= layout.stride[axis] * (ptrdiff_t)layout.size[axis];
            index[axis] = 0;
        }
        if (axis < 0) return true;
    }
}

template <class Item>
void gather(const Item* from, ptrdiff_t stride, Item* to, size_t count) {
    for (size_t place = 0; place < count; ++place) to[place] = from[(ptrdiff_t)place * stride];
}

inline void gather(const char* from, ptrdiff_t stride, char* to, size_t count, size_t item) {
    if (stride == 1) std::memcpy(to, from, count * item);
    else if (item == 8) gather((const uint64_t*)from, stride, (uint64_t*)to, count);
    else if (item == 4) gather((const uint32_t*)from, stride, (uint32_t*)to, count);
    else gather((const uint16_t*)from, stride, (uint16_t*)to, count);
}

// All entries as contiguous runs: calls action(first entry, number of entries) until it returns
// false. Short and strided runs are gathered.
template <class Action>
bool each_block(const char* data, const Layout& layout, size_t item, Action action) {
    if (!layout.entries()) return true;
    if (!layout.axes) return action(data, (size_t)1);
    size_t length = layout.size[layout.axes - 1];
    ptrdiff_t stride = layout.stride[layout.axes - 1];
    if (stride == 1 && length >= GATHERED)
        return each_run(layout, [&](ptrdiff_t offset) {
            return action(data + offset * (ptrdiff_t)item, length);
        });
    alignas(64) char buffer[GATHERED * 8];
    size_t filled = 0;
    bool going = each_run(layout, [&](ptrdiff_t offset) {
        const char* from = data + offset * (ptrdiff_t)item;
        for (size_t done = 0; done < length;) {
            size_t some = length - done < GATHERED - filled ? length - done : GATHERED - filled;
            gather(from + (ptrdiff_t)done * stride * (ptrdiff_t)item, stride,
                   buffer + filled * item, some, item);
            done += some;
            filled += some;
            if (filled == GATHERED) {
                filled = 0;
                if (!action((const char*)buffer, GATHERED)) return false;
            }
        }
        return true;
    });
    return going && (!filled || action((const char*)buffer, filled));
}

// Where the k-th of `runs` runs begins, as in statistics/_layout.py: somewhere in its even share.
inline size_t start_of(size_t k, size_t entries, size_t runs, size_t run) {
    size_t share = (entries - run) / runs;
    return k * share + (size_t)((uint64_t)(uint32_t)(k * 0x9E3779B1u) * share >> 32);
}

// Calls `action` with each run of a tensor. Runs lie on different pages of memory, so that finding
// them takes longer than reading them: those to come are asked for ahead.
template <class T, class Action>
void each_spread(const T* data, size_t entries, size_t runs, size_t run, Action action) {
    constexpr size_t ahead = 12, line = 64 / sizeof(T);
    auto ask = [&](size_t k) {
        const T* from = data + start_of(k, entries, runs, run);
        for (size_t place = 0; place < run; place += line) __builtin_prefetch(from + place);
        __builtin_prefetch(from + run - 1);
    };
    for (size_t k = 0; k < ahead && k < runs; ++k) ask(k);
    for (size_t k = 0; k < runs; ++k) {
        if (k + ahead < runs) ask(k + ahead);
        action(data + start_of(k, entries, runs, run), run);
    }
}
