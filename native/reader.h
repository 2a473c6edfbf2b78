// Reader: a function of a tensor that reads it into one row, if it is a plain one.
#pragma once
#include "plain.h"
#include "reading.h"

constexpr size_t PLAIN = 1 << 18;
constexpr size_t LARGE = 1 << 17, RUNS = 128, RUN = 32;  // as in statistics/_layout.py

// What a reader reads into.
struct Target {
    double* row;
    Ends ends;
    uint8_t* flags;
    size_t units;
    Py_ssize_t axis;
    bool part;  // whether a large tensor is read in part
};

// Raises the flags of a tensor that has as many units along the axis.
inline bool raise_plain(const Target& target, const char* data, int dtype, PyObject* shape,
                 PyObject* strides) {
    PyObject* items[] = {shape, strides};
    Arguments given{items, 2};
    Py_ssize_t axes = PyTuple_Size(shape);
    Layout others;
    size_t units = 0;
    ptrdiff_t step = 0;
    Py_ssize_t axis = target.axis < 0 ? target.axis + axes : target.axis;
    if (!given.layout(others, axis, &units, &step)) return false;
    if (units == target.units) raise(target.flags, data, dtype, others, units, step, target.ends);
    return true;
}

// Whether a reader takes this tensor: larger ones are left to who can share them among threads.
inline bool fits(const Target& target, const Plain& x) {
    return x.entries <= PLAIN || (target.part && x.entries >= LARGE);
}

// The runs of a large tensor, one after the other; entries as words of their size.
template <class Word> void gather_runs(const char* data, size_t entries, char* to) {
    each_spread((const Word*)data, entries, RUNS, RUN, [&](const Word* from, size_t count) {
        std::memcpy(to, from, count * sizeof(Word));
        to += count * sizeof(Word);
    });
}

// Reads a tensor that fits; false on an error of Python.
inline bool read_plain(const Target& target, PyObject* x, const Plain& plain) {
    auto [data, dtype, entries] = plain;
    bool some = target.part && entries >= LARGE;
    Layout layout;
    layout.insert(some ? RUNS * RUN : entries, 1);
    alignas(64) char runs[RUNS * RUN * 8];
    if (some) {
        if (dtype == FLOAT64) gather_runs<uint64_t>(data, entries, runs);
        else if (dtype == FLOAT32) gather_runs<uint32_t>(data, entries, runs);
        else gather_runs<uint16_t>(data, entries, runs);
        data = runs;
    }
    read_into(target.row, data, dtype, layout, target.ends, 1);
    if (!target.flags || !entries || some) return true;
    PyObject *shape = PyObject_GetAttr(x, name_shape), *strides = call(x, name_stride);
    bool raised = shape && strides && raise_plain(target, data, dtype, shape, strides);
    Py_XDECREF(shape);
    Py_XDECREF(strides);
    return raised;
}

inline const Target& target_of(PyObject* capsule) {
    return *(const Target*)PyCapsule_GetPointer(capsule, nullptr);
}

// reader(row, low, high, flags, units, axis, part) returns a function of a tensor that reads it and
// returns True, or False where the tensor takes more looking at: it is elsewhere, or not plain.
inline PyObject* read_target(PyObject* capsule, PyObject* x) {
    const Target& target = target_of(capsule);
    Plain plain;
    if (!is_plain(x, plain) || !fits(target, plain)) Py_RETURN_FALSE;
    if (!read_plain(target, x, plain)) return nullptr;
    Py_RETURN_TRUE;
}
inline PyMethodDef read_method = {"read", read_target, METH_O, nullptr};
