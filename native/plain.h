// Plain: tensors of torch that have nothing unusual about them, and what is in memory of them.
#pragma once
#include "arguments.h"

// Of the DLPack standard, version 1 (dlpack.h 1.3): how a library tells of a tensor in one call.
namespace dlpack {
constexpr int CPU = 1, FLOAT = 2, BRAIN = 4;

struct Tensor {
    void* data;
    int32_t device, device_index, axes;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides;  // strides in entries; null: contiguous
    uint64_t offset;           // in bytes
};

struct Exchange {
    uint32_t major, minor;
    Exchange* older;
    void *allocate, *to_managed, *from_managed;
    int (*to_tensor)(void*, Tensor*);  // -1: an error of Python
    void* stream;
};
}  // namespace dlpack

// Names of what is asked of a tensor.
inline PyObject *name_dtype, *name_is_cpu, *name_is_neg, *name_is_contiguous, *name_numel, *name_data_ptr;
inline PyObject *name_shape, *name_stride;

// Torch's own: the dtypes in the order of Dtype, and the classes that hold all that they say.
inline PyObject *dtypes[4], *classes[2];

// How torch tells of a tensor in one call, since 2.10; null: it is asked for one thing after another.
inline int (*to_tensor)(void*, dlpack::Tensor*) = nullptr;

// An attribute, or what a method without arguments returns, if it is `expected`.
inline bool is(PyObject* found, PyObject* expected) {
    Py_XDECREF(found);
    return found == expected;
}
inline PyObject* call(PyObject* x, PyObject* name) { return PyObject_CallMethodObjArgs(x, name, nullptr); }

// What is in memory of a plain tensor.
struct Plain {
    const char* data = nullptr;
    int dtype = -1;
    size_t entries = 0;
};

inline int dtype_of(PyObject* x) {
    PyObject* found = PyObject_GetAttr(x, name_dtype);
    Py_XDECREF(found);
    for (int dtype = 0; found && dtype < 4; ++dtype)
        if (found == dtypes[dtype]) return dtype;
    return -1;
}

inline int dtype_of(const dlpack::Tensor& x) {
    if (x.lanes != 1) return -1;
    if (x.code == dlpack::BRAIN) return x.bits == 16 ? BFLOAT16 : -1;
    if (x.code != dlpack::FLOAT) return -1;
    return x.bits == 32 ? FLOAT32 : x.bits == 64 ? FLOAT64 : x.bits == 16 ? FLOAT16 : -1;
}

inline bool is_contiguous(const dlpack::Tensor& x, size_t entries) {
    int64_t step = 1;
    for (int axis = x.axes - 1; entries && x.strides && axis >= 0; --axis) {
        if (x.shape[axis] != 1 && x.strides[axis] != step) return false;
        step *= x.shape[axis];
    }
    return true;
}

inline bool told_at_once(PyObject* x, Plain& found) {
    dlpack::Tensor all;
    if (to_tensor(x, &all) != 0) return false;
    found.dtype = all.device == dlpack::CPU ? dtype_of(all) : -1;
    found.entries = 1;
    for (int axis = 0; axis < all.axes; ++axis) found.entries *= (size_t)all.shape[axis];
    found.data = (const char*)all.data + all.offset;
    return found.dtype >= 0 && is_contiguous(all, found.entries) && is(call(x, name_is_neg), Py_False);
}

inline bool told_one_by_one(PyObject* x, Plain& found) {
    found.dtype = dtype_of(x);
    PyObject *number = nullptr, *address = nullptr;
    if (found.dtype >= 0 && is(PyObject_GetAttr(x, name_is_cpu), Py_True) &&
        is(call(x, name_is_contiguous), Py_True) && is(call(x, name_is_neg), Py_False) &&
        (number = call(x, name_numel)))
        address = call(x, name_data_ptr);
    found.entries = number ? PyLong_AsSize_t(number) : 0;
    found.data = (const char*)(address ? PyLong_AsVoidPtr(address) : nullptr);
    Py_XDECREF(number);
    Py_XDECREF(address);
    return address;
}

// Whether a tensor is contiguous in the memory of the processor. Those of other classes are not, for
// they may be a part of what they say they are.
inline bool is_plain(PyObject* x, Plain& found) {
    auto type = (PyObject*)Py_TYPE(x);
    if (type != classes[0] && type != classes[1]) return false;
    bool known = (to_tensor ? told_at_once : told_one_by_one)(x, found) && !PyErr_Occurred() &&
                 (found.data || !found.entries);
    PyErr_Clear();
    return known;
}

// Takes note of what torch's class of tensors says of the standard; None: nothing.
inline bool know_exchange(PyObject* capsule) {
    to_tensor = nullptr;
    if (capsule == Py_None) return true;
    auto found = (dlpack::Exchange*)PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    for (; found && found->major > 1; found = found->older) {}
    if (found && found->major == 1) to_tensor = found->to_tensor;
    return !PyErr_Occurred();
}
