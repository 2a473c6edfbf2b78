// isograd.statistics._native: the passes over tensors, by address, without libtorch.
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "layout.h"
#include "levels.h"
#include "samples.h"

namespace {

constexpr size_t ALONE = 1 << 16;      // entries below are read without letting others run
constexpr size_t BLOCK = 4096, DRIFT = 61;
constexpr size_t SHARED = 1 << 19;     // entries per thread, at the least
constexpr size_t PIECE = 1 << 26;      // entries of one pass: its counters hold 32 bits
constexpr double SAFE[] = {0x1p-200, 0x1p200};  // as in columns.py
constexpr double LIMIT = 0x1p1020;

int level_used = 0;

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

void add(const char* data, int dtype, size_t count, Pass& pass) {
    const Level& level = *levels[level_used];
    for (size_t done = 0; done < count; done += PIECE)
        level.add[dtype](data + done * item_size(dtype), std::min(PIECE, count - done), pass);
}

// Adds contiguous entries to a pass, a part of them on each of several threads.
void add_shared(const char* data, int dtype, size_t count, Pass& pass, size_t threads) {
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

void read_into(double* row, const char* data, int dtype, const Layout& layout,
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
void raise(uint8_t* flags, const char* data, int dtype, const Layout& others, size_t units,
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

bool known(int dtype) {
    if (PyErr_Occurred()) return false;
    if (dtype >= FLOAT32 && dtype <= BFLOAT16) return true;
    PyErr_Format(PyExc_ValueError, "unknown dtype %d", dtype);
    return false;
}

PyObject* none() { Py_RETURN_NONE; }

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
    if (!known(dtype)) return nullptr;
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
    if (!known(dtype)) return nullptr;
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
    if (!known(dtype)) return nullptr;
    {
        Released released(others.entries() * units > ALONE);
        raise(flags, data, dtype, others, units, step, ends);
    }
    return none();
}

// What a reader reads into.
struct Target {
    double* row;
    Ends ends;
    uint8_t* flags;
    size_t units;
    Py_ssize_t axis;
    size_t part;  // entries to keep of a tensor of twice as many or more; 0: all
};

// Raises the flags of a tensor that has as many units along the axis.
bool raise_plain(const Target& target, const char* data, int dtype, PyObject* shape,
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

// Names of what is asked of a tensor, and the dtypes in the order of Dtype.
PyObject *name_dtype, *name_is_cpu, *name_is_neg, *name_is_contiguous, *name_numel, *name_data_ptr;
PyObject *name_shape, *name_stride, *dtypes[4];

// An attribute, or what a method without arguments returns, if it is `expected`.
bool is(PyObject* found, PyObject* expected) {
    Py_XDECREF(found);
    return found == expected;
}
PyObject* call(PyObject* x, PyObject* name) { return PyObject_CallMethodObjArgs(x, name, nullptr); }

int dtype_of(PyObject* x) {
    PyObject* found = PyObject_GetAttr(x, name_dtype);
    Py_XDECREF(found);
    for (int dtype = 0; found && dtype < 4; ++dtype)
        if (found == dtypes[dtype]) return dtype;
    return -1;
}

// reader(row, low, high, flags, units, axis, part) returns a function of a tensor that reads it and
// returns True, or False where the tensor takes more looking at: it is elsewhere, or not plain.
PyObject* read_target(PyObject* capsule, PyObject* x) {
    auto target = (const Target*)PyCapsule_GetPointer(capsule, nullptr);
    int dtype = dtype_of(x);
    if (PyErr_Occurred()) return nullptr;
    if (dtype < 0 || !is(PyObject_GetAttr(x, name_is_cpu), Py_True) ||
        !is(call(x, name_is_contiguous), Py_True) || !is(call(x, name_is_neg), Py_False)) {
        if (PyErr_Occurred()) return nullptr;
        Py_RETURN_FALSE;
    }
    PyObject *number = call(x, name_numel), *address = number ? call(x, name_data_ptr) : nullptr;
    size_t entries = number ? PyLong_AsSize_t(number) : 0;
    auto data = (const char*)(address ? PyLong_AsVoidPtr(address) : nullptr);
    Py_XDECREF(number);
    Py_XDECREF(address);
    if (PyErr_Occurred()) return nullptr;
    bool some = target->part && entries >= 2 * target->part;
    if ((!some && entries > 4 * ALONE) || (entries && !data)) Py_RETURN_FALSE;
    Layout layout;
    if (some) {  // the blocks of statistics/_layout.py, part()
        size_t period = entries / (target->part / BLOCK) - DRIFT;
        layout.insert(entries / period, (ptrdiff_t)period);
        layout.insert(BLOCK, 1);
    } else {
        layout.insert(entries, 1);
    }
    read_into(target->row, data, dtype, layout, target->ends, 1);
    if (target->flags && entries && !some) {
        PyObject *shape = PyObject_GetAttr(x, name_shape), *strides = call(x, name_stride);
        bool raised = shape && strides && raise_plain(*target, data, dtype, shape, strides);
        Py_XDECREF(shape);
        Py_XDECREF(strides);
        if (!raised) return nullptr;
    }
    Py_RETURN_TRUE;
}
PyMethodDef read_method = {"read", read_target, METH_O, nullptr};

PyObject* py_reader(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(7)) return nullptr;
    auto row = (double*)given.address();
    Ends ends = given.ends();
    auto flags = (uint8_t*)given.address();
    size_t units = (size_t)given.number();
    Py_ssize_t axis = given.number();
    size_t part = (size_t)given.number();
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

// sample(data, dtype, entries, step, to): every step-th entry, as float64.
PyObject* py_sample(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(5)) return nullptr;
    void* data = given.address();
    int dtype = (int)given.number();
    size_t entries = (size_t)given.number(), step = (size_t)given.number();
    auto to = (double*)given.address();
    if (!known(dtype)) return nullptr;
    sample_of[dtype](data, entries, step, to);
    return none();
}

// change(data, dtype, entries, step, before, found): since the sample was taken, to float64 [3].
PyObject* py_change(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(6)) return nullptr;
    void* data = given.address();
    int dtype = (int)given.number();
    size_t entries = (size_t)given.number(), step = (size_t)given.number();
    auto before = (const double*)given.address();
    auto found = (double*)given.address();
    if (!known(dtype)) return nullptr;
    change_of[dtype](data, entries, step, before, found);
    return none();
}

// know(float32, float64, float16, bfloat16): torch's dtypes, before any reader is asked.
PyObject* py_know(PyObject*, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(4)) return nullptr;
    for (int dtype = 0; dtype < 4; ++dtype) {
        Py_INCREF(items[dtype]);
        Py_XDECREF(dtypes[dtype]);
        dtypes[dtype] = items[dtype];
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
    FAST(exponents),
    FAST(sample),
    FAST(change),
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
