// Hooks: what hangs on a model in a look. The usual case is read without a line of Python, which a
// matrix product would have driven out of the caches; all else is left to functions of Python.
#pragma once
#include <chrono>

#include "reader.h"

struct State {  // as in probe/live/shield.py
    double off, cost;
};

struct Hook {
    State* state;
    const uint8_t* thorough;
    uint8_t* seen;  // whether the row was read in this forward
};

// What a hook is bound to.
enum Bound { HOOK, READER, SLOW, BACK, QUIET, BOUND };

inline PyObject *name_hooks, *name_grad_fn, *name_add_hooks, *name_back, *ordered_dict;
inline PyObject *name_requires_grad, *name_register_hook, *name_enter, *name_exit;

struct Running {
    PyObject* bound;
    Hook* hook = (Hook*)PyCapsule_GetPointer(item(HOOK), nullptr);
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

    PyObject* item(int which) { return PyTuple_GetItem(bound, which); }
    const Target& target() { return target_of(PyCFunction_GetSelf(item(READER))); }

    PyObject* done() {
        std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
        hook->state->cost += passed.count();
        return none();
    }
};

// While it lives no mode of torch sees what is asked of a tensor.
struct Quiet {
    PyObject* guard = nullptr;

    explicit Quiet(PyObject* type) {
        if (type == Py_None) return;
        guard = PyObject_CallNoArgs(type);
        if (guard) Py_XDECREF(call(guard, name_enter));
    }
    ~Quiet() {
        if (!guard) return;
        Py_XDECREF(PyObject_CallMethodObjArgs(guard, name_exit, Py_None, Py_None, Py_None, nullptr));
        Py_DECREF(guard);
    }
};

// What Tensor.register_hook does for a tensor that has no hook yet, but for the handle that nobody
// wants: of that, a look had one for every output. False, with nothing done, where it is not so.
inline bool listen_first(PyObject* output, PyObject* back) {
    if (!ordered_dict || !is(PyObject_GetAttr(output, name_hooks), Py_None)) return false;
    PyObject* node = PyObject_GetAttr(output, name_grad_fn);
    PyObject* add = node && node != Py_None ? PyObject_GetAttr(node, name_add_hooks) : nullptr;
    PyObject* hooks = add ? PyObject_CallNoArgs(ordered_dict) : nullptr;
    bool done = false;
    if (hooks && PyObject_SetItem(hooks, name_back, back) == 0 &&
        PyObject_SetAttr(output, name_hooks, hooks) == 0) {
        PyObject* none = PyObject_CallFunctionObjArgs(add, output, nullptr);
        done = none;
        Py_XDECREF(none);
        if (!done) PyObject_SetAttr(output, name_hooks, Py_None);
    }
    PyErr_Clear();
    Py_XDECREF(hooks);
    Py_XDECREF(add);
    Py_XDECREF(node);
    return done;
}

inline bool listen(PyObject* output, PyObject* back) {
    if (listen_first(output, back)) return true;
    PyObject* handle = PyObject_CallMethodObjArgs(output, name_register_hook, back, nullptr);
    Py_XDECREF(handle);
    return handle;
}

// Reads an output and has its gradient read; false, with nothing done, in any unusual case.
inline bool read_output(Running& running, PyObject* output) {
    if ((PyObject*)Py_TYPE(output) != classes[0]) return false;
    Quiet quiet(running.item(QUIET));
    Plain plain;
    if (!is(PyObject_GetAttr(output, name_requires_grad), Py_True) || !is_plain(output, plain) ||
        !fits(running.target(), plain))
        return false;
    if (!listen(output, running.item(BACK))) return false;
    *running.hook->seen = 1;
    if (!read_plain(running.target(), output, plain)) PyErr_Clear();
    return true;
}

// forward_hook(...)(module, arguments, output)
inline PyObject* forward_hook(PyObject* bound, PyObject* const* items, Py_ssize_t number) {
    Running running{bound};
    if (running.hook->state->off != 0) return none();
    if (number == 3 && !*running.hook->thorough && !*running.hook->seen &&
        read_output(running, items[2]))
        return running.done();
    PyErr_Clear();
    PyObject* given = PyTuple_New(number);
    if (!given) return nullptr;
    for (Py_ssize_t place = 0; place < number; ++place) {
        Py_INCREF(items[place]);
        PyTuple_SetItem(given, place, items[place]);
    }
    PyObject* found = PyObject_CallObject(running.item(SLOW), given);
    Py_DECREF(given);
    return found;
}

// gradient_hook(...)(gradient)
inline PyObject* gradient_hook(PyObject* bound, PyObject* gradient) {
    Running running{bound};
    if (running.hook->state->off != 0) return none();
    Plain plain;
    if (!*running.hook->thorough && is_plain(gradient, plain) && fits(running.target(), plain)) {
        if (!read_plain(running.target(), gradient, plain)) PyErr_Clear();
        return running.done();
    }
    return PyObject_CallFunctionObjArgs(running.item(SLOW), gradient, nullptr);
}

inline PyMethodDef hook_methods[] = {
    {"forward", (PyCFunction)(void (*)(void))forward_hook, METH_FASTCALL, nullptr},
    {"gradient", gradient_hook, METH_O, nullptr},
};

// A function bound to (hook, reader, slow, back, quiet), which are not called unless they have to be.
inline PyObject* bind(PyMethodDef* method, PyObject* const* items, Py_ssize_t number) {
    Arguments given{items, number};
    if (!given.expect(7)) return nullptr;
    auto state = (State*)given.address();
    auto thorough = (const uint8_t*)given.address();
    auto seen = (uint8_t*)given.address();
    if (PyErr_Occurred()) return nullptr;
    auto hook = new Hook{state, thorough, seen};
    PyObject* capsule = PyCapsule_New(hook, nullptr, [](PyObject* self) {
        delete (Hook*)PyCapsule_GetPointer(self, nullptr);
    });
    PyObject* bound = capsule ? PyTuple_New(BOUND) : nullptr;
    if (!bound) {
        if (capsule) Py_DECREF(capsule);
        else delete hook;
        return nullptr;
    }
    PyTuple_SetItem(bound, HOOK, capsule);
    for (int which = READER; which < BOUND; ++which) {
        Py_INCREF(items[2 + which]);
        PyTuple_SetItem(bound, which, items[2 + which]);
    }
    PyObject* found = PyCFunction_New(method, bound);
    Py_DECREF(bound);
    return found;
}
