// isograd.statistics._native: the passes over tensors, by address, without libtorch.
#include "arguments.h"
#include "hooks.h"
#include "reader.h"
#include "reading.h"
#include "samples.h"

namespace {

constexpr size_t ALONE = 1 << 16;  // entries below are read without letting others run

// read(data, dtype, entries, row, low, high, threads): contiguous entries.
PyObject* py_read(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(7)) return nullptr;
    auto data = (const char*)given.address();
    int dtype = (int)given.number();
    size_t entries = (size_t)given.number();
    auto row = (double*)given.address();
    Ends ends = given.ends();
    size_t threads = (size_t)given.number();
    if (!known(dtype) || !present(data, entries)) return nullptr;
    Layout layout;
    layout.insert(entries, 1);
    {
        Released released(entries > ALONE);
        read_into(row, data, dtype, layout, ends, threads);
    }
    return none();
}

// read_strided(data, dtype, sizes, strides, row, low, high, threads): any tensor.
PyObject* py_read_strided(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(8)) return nullptr;
    auto data = (const char*)given.address();
    int dtype = (int)given.number();
    Layout layout;
    if (!given.layout(layout, -1, nullptr, nullptr)) return nullptr;
    auto row = (double*)given.address();
    Ends ends = given.ends();
    size_t threads = (size_t)given.number();
    if (!known(dtype) || !present(data, layout.entries())) return nullptr;
    {
        Released released(layout.entries() > ALONE);
        read_into(row, data, dtype, layout, ends, threads);
    }
    return none();
}

// raise_flags(data, dtype, sizes, strides, axis, flags, low, high): any tensor of entries.
PyObject* py_raise_flags(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(8)) return nullptr;
    auto data = (const char*)given.address();
    int dtype = (int)given.number();
    Layout others;
    size_t units = 0;
    ptrdiff_t step = 0;
    if (!given.layout(others, PyLong_AsSsize_t(items[4]), &units, &step)) return nullptr;
    given.number();
    auto flags = (uint8_t*)given.address();
    Ends ends = given.ends();
    if (!known(dtype) || !present(data, others.entries() * units)) return nullptr;
    {
        Released released(others.entries() * units > ALONE);
        raise(flags, data, dtype, others, units, step, ends);
    }
    return none();
}

PyObject* py_reader(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(7)) return nullptr;
    auto row = (double*)given.address();
    Ends ends = given.ends();
    auto flags = (uint8_t*)given.address();
    size_t units = (size_t)given.number();
    Py_ssize_t axis = given.number();
    bool part = given.number() != 0;
    if (PyErr_Occurred()) return nullptr;
    auto target = new Target{row, ends, flags, units, axis, part};
    PyObject* capsule = PyCapsule_New(target, nullptr, [](PyObject* self) {
        delete (Target*)PyCapsule_GetPointer(self, nullptr);
    });
    if (!capsule) {
        delete target;
        return nullptr;
    }
    PyObject* reader = PyCFunction_New(&read_method, capsule);
    Py_DECREF(capsule);
    return reader;
}

// forward_hook(state, thorough, seen, reader, slow, back, quiet): a hook of a module. It reads its
// output and has `back` called with the gradient; or calls `slow`, as it was called. `quiet` is
// torch's DisableTorchFunction where a mode may be on, or None.
PyObject* py_forward_hook(PyObject*, PyObject* const* items, Py_ssize_t number) {
    return bind(&hook_methods[0], items, number);
}

// gradient_hook(state, thorough, seen, reader, slow, None, None): a hook of a tensor, likewise.
PyObject* py_gradient_hook(PyObject*, PyObject* const* items, Py_ssize_t number) {
    return bind(&hook_methods[1], items, number);
}

// exponents(data, dtype, entries, step, bins): of every step-th entry, added to int64 [BINS].
PyObject* py_exponents(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(5)) return nullptr;
    void* data = given.address();
    int dtype = (int)given.number();
    size_t entries = (size_t)given.number(), step = (size_t)given.number();
    auto bins = (int64_t*)given.address();
    if (!known(dtype)) return nullptr;
    exponents_of[dtype](data, entries, step, bins);
    return none();
}

// What is done to each of a list of tensors, by its place; it returns False where it cannot be.
template <class Action> PyObject* each_plain(PyObject* tensors, Action action) {
    Py_ssize_t number = PyList_Size(tensors);
    for (Py_ssize_t place = 0; place < number; ++place) {
        Plain plain;
        if (is_plain(PyList_GetItem(tensors, place), plain) && action(place, plain)) continue;
        Py_RETURN_FALSE;
    }
    if (number < 0) return nullptr;
    Py_RETURN_TRUE;
}

// read_each(readers, tensors): each by its own reader; returns the places of those that are left.
PyObject* py_read_each(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(2)) return nullptr;
    PyObject* left = PyList_New(0);
    Py_ssize_t tensors = left ? PyList_Size(items[1]) : -1;
    bool going = tensors >= 0 && PyList_Size(items[0]) == tensors;
    for (Py_ssize_t place = 0; going && place < tensors; ++place) {
        const Target& target = target_of(PyCFunction_GetSelf(PyList_GetItem(items[0], place)));
        PyObject* x = PyList_GetItem(items[1], place);
        Plain plain;
        if (is_plain(x, plain) && fits(target, plain)) {
            going = read_plain(target, x, plain);
        } else {
            PyObject* number = PyLong_FromSsize_t(place);
            going = number && PyList_Append(left, number) == 0;
            Py_XDECREF(number);
        }
    }
    if (going) return left;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "as many readers as tensors, in lists");
    Py_XDECREF(left);
    return nullptr;
}

// take(tensors, to, sizes): samples, to float64 [tensors, SAMPLE]; sizes are int64 [tensors].
PyObject* py_take(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number, 1};
    if (!given.expect(3)) return nullptr;
    auto to = (double*)given.address();
    auto sizes = (int64_t*)given.address();
    if (PyErr_Occurred()) return nullptr;
    return each_plain(items[0], [&](Py_ssize_t place, const Plain& x) {
        take_of[x.dtype](x.data, x.entries, to + place * SAMPLE);
        sizes[place] = (int64_t)x.entries;
        return true;
    });
}

// compare(tensors, before, sizes, found): with what was taken, to float64 [tensors, 3].
PyObject* py_compare(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number, 1};
    if (!given.expect(4)) return nullptr;
    auto before = (const double*)given.address();
    auto sizes = (const int64_t*)given.address();
    auto found = (double*)given.address();
    if (PyErr_Occurred()) return nullptr;
    return each_plain(items[0], [&](Py_ssize_t place, const Plain& x) {
        if (sizes[place] != (int64_t)x.entries) return false;
        compare_of[x.dtype](x.data, x.entries, before + place * SAMPLE, found + 3 * place);
        return true;
    });
}

// know(float32, float64, float16, bfloat16, Tensor, Parameter, exchange): of torch, before anything is
// read; `exchange` is what its tensors say of DLPack, or None.
PyObject* py_know(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(7) || !know_exchange(items[6])) return nullptr;
    for (int place = 0; place < 6; ++place) {
        Py_INCREF(items[place]);
        PyObject*& kept = place < 4 ? dtypes[place] : classes[place - 4];
        Py_XDECREF(kept);
        kept = items[place];
    }
    return none();
}

// levels(): names of the levels that this processor has, the best last.
PyObject* py_levels(PyObject*, PyObject*) {
    PyObject* names = PyList_New(0);
    for (int level = 0; names && level < LEVELS; ++level) {
        if (!can_use(level)) continue;
        PyObject* name = PyUnicode_FromString(level_names[level]);
        if (!name || PyList_Append(names, name) < 0) Py_CLEAR(names);
        Py_XDECREF(name);
    }
    return names;
}

// use(name): reads with one of these levels from now on.
PyObject* py_use(PyObject*, PyObject* name) {
    for (int level = 0; level < LEVELS; ++level) {
        PyObject* known = PyUnicode_FromString(level_names[level]);
        int same = known ? PyUnicode_Compare(known, name) == 0 : 0;
        Py_XDECREF(known);
        if (PyErr_Occurred()) return nullptr;
        if (same && can_use(level)) {
            level_used = level;
            return none();
        }
    }
    return PyErr_Format(PyExc_ValueError, "this processor has no level %R", name);
}

#define FAST(name) {#name, (PyCFunction)(void (*)(void))py_##name, METH_FASTCALL, nullptr}
PyMethodDef functions[] = {
    FAST(read),
    FAST(read_strided),
    FAST(raise_flags),
    FAST(reader),
    FAST(forward_hook),
    FAST(gradient_hook),
    FAST(exponents),
    FAST(read_each),
    FAST(take),
    FAST(compare),
    FAST(know),
    {"levels", py_levels, METH_NOARGS, nullptr},
    {"use", py_use, METH_O, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

int start(PyObject*) {
    name_dtype = PyUnicode_InternFromString("dtype");
    name_is_cpu = PyUnicode_InternFromString("is_cpu");
    name_is_neg = PyUnicode_InternFromString("is_neg");
    name_is_contiguous = PyUnicode_InternFromString("is_contiguous");
    name_numel = PyUnicode_InternFromString("numel");
    name_data_ptr = PyUnicode_InternFromString("data_ptr");
    name_shape = PyUnicode_InternFromString("shape");
    name_stride = PyUnicode_InternFromString("stride");
    name_hooks = PyUnicode_InternFromString("_backward_hooks");
    name_grad_fn = PyUnicode_InternFromString("grad_fn");
    name_add_hooks = PyUnicode_InternFromString("_register_hook_dict");
    name_back = PyUnicode_InternFromString("isograd");
    if (PyObject* collections = PyImport_ImportModule("collections")) {
        ordered_dict = PyObject_GetAttrString(collections, "OrderedDict");
        Py_DECREF(collections);
    }
    name_requires_grad = PyUnicode_InternFromString("requires_grad");
    name_register_hook = PyUnicode_InternFromString("register_hook");
    name_enter = PyUnicode_InternFromString("__enter__");
    name_exit = PyUnicode_InternFromString("__exit__");
    if (PyErr_Occurred()) return -1;
    for (int level = 0; level < LEVELS; ++level)
        if (can_use(level)) level_used = level;
    return 0;
}

PyModuleDef_Slot slots[] = {{Py_mod_exec, (void*)start}, {0, nullptr}};
PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "Passes over tensors, by address.", 0, functions, slots,
    nullptr, nullptr, nullptr,
};
}  // namespace

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
