// Arguments: what a function of the module is called with.
#pragma once
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include "layout.h"

struct Arguments {
    PyObject* const* items;
    Py_ssize_t count;
    Py_ssize_t taken = 0;

    bool expect(Py_ssize_t number) {
        if (count == number) return true;
        PyErr_Format(PyExc_TypeError, "expected %zd arguments, got %zd", number, count);
        return false;
    }
    void* address() { return PyLong_AsVoidPtr(items[taken++]); }
    Py_ssize_t number() { return PyLong_AsSsize_t(items[taken++]); }
    Ends ends() {
        double found[2];
        for (double& one : found) {
            PyObject* item = items[taken++];
            one = item == Py_None ? NAN : PyFloat_AsDouble(item);
        }
        return Ends(found[0], found[1]);
    }
    // Tuples of sizes and strides; with `apart` one axis is left out and returned.
    bool layout(Layout& found, Py_ssize_t apart, size_t* length, ptrdiff_t* step) {
        PyObject *sizes = items[taken++], *strides = items[taken++];
        Py_ssize_t axes = PyTuple_Size(sizes);
        if (axes < 0 || PyTuple_Size(strides) != axes || axes > MAX_AXES) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "sizes and strides differ");
            return false;
        }
        for (Py_ssize_t axis = 0; axis < axes; ++axis) {
            size_t size = PyLong_AsSize_t(PyTuple_GetItem(sizes, axis));
            ptrdiff_t stride = PyLong_AsSsize_t(PyTuple_GetItem(strides, axis));
            if (axis == apart) {
                *length = size;
                *step = stride;
            } else {
                found.insert(size, stride);
            }
        }
        found.join();
        return !PyErr_Occurred();
    }
};

// Lets other Python threads run while it lives.
struct Released {
    PyThreadState* state;
    explicit Released(bool really) : state(really ? PyEval_SaveThread() : nullptr) {}
    ~Released() { if (state) PyEval_RestoreThread(state); }
};

inline bool known(int dtype) {
    if (PyErr_Occurred()) return false;
    if (dtype >= FLOAT32 && dtype <= BFLOAT16) return true;
    PyErr_Format(PyExc_ValueError, "unknown dtype %d", dtype);
    return false;
}

// Whether there is something to be read at an address; fake tensors are at none.
inline bool present(const void* data, size_t entries) {
    if (data || !entries) return true;
    PyErr_SetString(PyExc_ValueError, "the tensor has no data");
    return false;
}

inline PyObject* none() { Py_RETURN_NONE; }
