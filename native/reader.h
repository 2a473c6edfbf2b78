// Reader: a function of a tensor that reads it into one row, if it is a plain one.
#pragma once
#include "arguments.h"
#include "reading.h"

constexpr size_t PLAIN = 1 << 18;
constexpr size_t LARGE = 1 << 17, RUNS = 128, RUN = 64;  // as in statistics/_layout.py

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

// Names of what is asked of a tensor.
inline PyObject *name_dtype, *name_is_cpu, *name_is_neg, *name_is_contiguous, *name_numel, *name_data_ptr;
inline PyObject *name_shape, *name_stride;

// Torch's own: the dtypes in the order of Dtype, and the classes that hold all that they say.
inline PyObject *dtypes[4], *classes[2];

// An attribute, or what a method without arguments returns, if it is `expected`.
inline bool is(PyObject* found, PyObject* expected) {
    Py_XDECREF(found);
    return found == expected;
}
inline PyObject* call(PyObject* x, PyObject* name) { return PyObject_CallMethodObjArgs(x, name, nullptr); }

inline int dtype_of(PyObject* x) {
    PyObject* found = PyObject_GetAttr(x, name_dtype);
    Py_XDECREF(found);
    for (int dtype = 0; found && dtype < 4; ++dtype)
        if (found == dtypes[dtype]) return dtype;
    return -1;
}

// What is in memory of a tensor that has nothing unusual about it.
struct Plain {
    const char* data = nullptr;
    int dtype = -1;
    size_t entries = 0;
};

// Whether a tensor is contiguous in the memory of the processor. Those of other classes are not, for
// they may be a part of what they say they are.
inline bool is_plain(PyObject* x, Plain& found) {
    auto type = (PyObject*)Py_TYPE(x);
    if (type != classes[0] && type != classes[1]) return false;
    found.dtype = dtype_of(x);
    PyObject *number = nullptr, *address = nullptr;
    if (found.dtype >= 0 && is(PyObject_GetAttr(x, name_is_cpu), Py_True) &&
        is(call(x, name_is_contiguous), Py_True) && is(call(x, name_is_neg), Py_False) &&
        (number = call(x, name_numel)))
        address = call(x, name_data_ptr);
    found.entries = number ? PyLong_AsSize_t(number) : 0;
    found.data = (const char*)(address ? PyLong_AsVoidPtr(address) : nullptr);
    bool known = address && !PyErr_Occurred() && (found.data || !found.entries);
    Py_XDECREF(number);
    Py_XDECREF(address);
    PyErr_Clear();
    return known;
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
