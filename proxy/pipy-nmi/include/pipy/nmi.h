/*
 * Native modules: pipelines of scripts, written in C or in whatever can call C.
 *
 * A module is a shared library. A script goes through it with `use('path/of/module.so', 'pipeline')`. When a worker loads the
 * script, pipy_module_init() is called once, on the worker's thread, to say which variables and pipelines the module has; from
 * then on each instance of a pipeline is given its events, one after the other, on that thread.
 *
 * Build: cc -shared -fPIC -I include -o module.so module.c
 *
 * Rules
 * - A value is a number that stands for a value of the script. It is good until the callback returns, or, after pjs_hold(),
 *   until pjs_free(). A number that stands for nothing is taken for `undefined`.
 * - Everything is per thread: each worker has variables, values and pipelines of its own.
 * - Threads of the module's own may call pipy_schedule() and pipy_free(), and nothing else. What they have to say is said in
 *   the function that pipy_schedule() has called on the pipeline's thread.
 * - A module is part of the program: what it breaks is broken, a crash of it is a crash of the proxy.
 */

#ifndef PIPY_NMI_H
#define PIPY_NMI_H

#ifdef __cplusplus
extern "C" {
#endif

/* A value of the script. */
typedef int pjs_value;

/* An instance of a pipeline. */
typedef int pipy_pipeline;

/* What pjs_type_of() says. `null` is an object, as in JavaScript; pjs_is_null() knows it. */
enum pjs_type {
  PJS_TYPE_UNDEFINED = 0,
  PJS_TYPE_BOOLEAN = 1,
  PJS_TYPE_NUMBER = 2,
  PJS_TYPE_STRING = 3,
  PJS_TYPE_OBJECT = 4
};

/* The object that pjs_native() made is gone. May be called at the end of any callback. */
typedef void (*fn_object_free)(void *ptr);

/* A pipeline begins: `*user_ptr` is what the other callbacks are given. */
typedef void (*fn_pipeline_init)(pipy_pipeline ppl, void **user_ptr);

/* A pipeline has ended, and nobody holds it any more. */
typedef void (*fn_pipeline_free)(pipy_pipeline ppl, void *user_ptr);

/* An event has come: Data, MessageStart, MessageEnd or StreamEnd. */
typedef void (*fn_pipeline_process)(pipy_pipeline ppl, void *user_ptr, pjs_value evt);

/* What a module exports: `void pipy_module_init()`. */
typedef void (*fn_pipy_module_init)(void);

/* ---- Making values ---------------------------------------------------------------------------------------------------- */

pjs_value pjs_undefined(void);
pjs_value pjs_null(void);
pjs_value pjs_boolean(int b);
pjs_value pjs_number(double n);
/* UTF-8; a negative length: up to the first zero byte. What is not UTF-8 is replaced by U+FFFD. */
pjs_value pjs_string(const char *s, int len);
pjs_value pjs_object(void);
pjs_value pjs_array(int len);
/* An object around a pointer; `free` (may be NULL) is called with it when the object is gone. */
pjs_value pjs_native(void *ptr, fn_object_free free);
/* Makes `v` stand for what `src` stands for. Returns v. */
pjs_value pjs_copy(pjs_value v, pjs_value src);
/* Keeps a value beyond the callback; returns it. Each hold needs a free. */
pjs_value pjs_hold(pjs_value v);
void pjs_free(pjs_value v);

/* ---- Looking at values ------------------------------------------------------------------------------------------------ */

enum pjs_type pjs_type_of(pjs_value v);
/* A number for the class of an object (0: none), and for a class by its name. */
int pjs_class_of(pjs_value v);
int pjs_class_id(const char *name);
int pjs_is_undefined(pjs_value v);
int pjs_is_null(pjs_value v);
int pjs_is_nullish(pjs_value v);
int pjs_is_string(pjs_value v);
int pjs_is_empty_string(pjs_value v);
int pjs_is_object(pjs_value v);
int pjs_is_array(pjs_value v);
int pjs_is_function(pjs_value v);
int pjs_is_native(pjs_value v);
int pjs_is_instance_of(pjs_value v, int class_id);
/* `==` and `===`. */
int pjs_is_equal(pjs_value a, pjs_value b);
int pjs_is_identical(pjs_value a, pjs_value b);
int pjs_to_boolean(pjs_value v);
double pjs_to_number(pjs_value v);
pjs_value pjs_to_string(pjs_value v);

/* ---- Strings ---------------------------------------------------------------------------------------------------------- */

/* Characters (code points), one of them (-1: none there), and bytes in UTF-8. */
int pjs_string_get_length(pjs_value str);
int pjs_string_get_char_code(pjs_value str, int pos);
int pjs_string_get_utf8_size(pjs_value str);
/* Copies as many bytes as fit; no zero byte is added. Returns how many. */
int pjs_string_get_utf8_data(pjs_value str, char *buf, int len);

/* ---- Objects ---------------------------------------------------------------------------------------------------------- */

/* Makes `v` stand for the property. Returns whether there is one. */
int pjs_object_get_property(pjs_value obj, pjs_value k, pjs_value v);
int pjs_object_set_property(pjs_value obj, pjs_value k, pjs_value v);
int pjs_object_delete(pjs_value obj, pjs_value k);
/* Calls back for each property until that returns zero. */
void pjs_object_iterate(pjs_value obj, int (*cb)(pjs_value k, pjs_value v, void *user), void *user);

/* ---- Arrays ----------------------------------------------------------------------------------------------------------- */

int pjs_array_get_length(pjs_value arr);
int pjs_array_set_length(pjs_value arr, int len);
int pjs_array_get_element(pjs_value arr, int i, pjs_value v);
int pjs_array_set_element(pjs_value arr, int i, pjs_value v);
int pjs_array_delete(pjs_value arr, int i);
/* The new length, or -1 where `arr` is no array. */
int pjs_array_push(pjs_value arr, pjs_value v);
int pjs_array_unshift(pjs_value arr, pjs_value v);
pjs_value pjs_array_pop(pjs_value arr);
pjs_value pjs_array_shift(pjs_value arr);
/* The elements that were taken out. */
pjs_value pjs_array_splice(pjs_value arr, int pos, int del, int ins, pjs_value v[]);

/* ---- Pointers --------------------------------------------------------------------------------------------------------- */

/* What pjs_native() was given; NULL for other objects. */
void *pjs_native_ptr(pjs_value obj);

/* ---- Events ----------------------------------------------------------------------------------------------------------- */

int pipy_is_Data(pjs_value obj);
int pipy_is_MessageStart(pjs_value obj);
int pipy_is_MessageEnd(pjs_value obj);
int pipy_is_StreamEnd(pjs_value obj);

pjs_value pipy_Data_new(const char *buf, int len);
void pipy_Data_push(pjs_value obj, pjs_value data);
/* Bytes from the end, and from the front. */
pjs_value pipy_Data_pop(pjs_value obj, int len);
pjs_value pipy_Data_shift(pjs_value obj, int len);
int pipy_Data_get_size(pjs_value obj);
/* Copies as many bytes as fit. Returns how many. */
int pipy_Data_get_data(pjs_value obj, char *buf, int len);

pjs_value pipy_MessageStart_new(pjs_value head);
pjs_value pipy_MessageStart_get_head(pjs_value obj);
pjs_value pipy_MessageEnd_new(pjs_value tail, pjs_value payload);
pjs_value pipy_MessageEnd_get_tail(pjs_value obj);
pjs_value pipy_MessageEnd_get_payload(pjs_value obj);
pjs_value pipy_StreamEnd_new(pjs_value error);
pjs_value pipy_StreamEnd_get_error(pjs_value obj);

/* ---- What a module has; for pipy_module_init() ------------------------------------------------------------------------ */

/*
 * A variable of each context. `id` is the number that the module wants for it, or -1 for one that is free; the number is
 * returned. Scripts see it with `.import({name: 'ns'})`; with `ns` NULL only the module sees it.
 */
int pipy_define_variable(int id, const char *name, const char *ns, pjs_value init);

/* `name` NULL or "": the pipeline of `use('module.so')`. */
void pipy_define_pipeline(const char *name, fn_pipeline_init init, fn_pipeline_free free, fn_pipeline_process process);

/* ---- What a pipeline does --------------------------------------------------------------------------------------------- */

/* Gives an event, or a Message or an array of events, to what comes behind the pipeline. */
void pipy_output_event(pipy_pipeline ppl, pjs_value evt);
/* Makes `value` stand for the variable. */
void pipy_get_variable(pipy_pipeline ppl, int id, pjs_value value);
void pipy_set_variable(pipy_pipeline ppl, int id, pjs_value value);
/* Keeps `ppl` good after the pipeline has ended, for a thread that works on it. Each hold needs a free. */
void pipy_hold(pipy_pipeline ppl);
void pipy_free(pipy_pipeline ppl);
/* Calls `fn` on the pipeline's thread, so many seconds later. A pipeline that has ended and is not held calls nothing. */
void pipy_schedule(pipy_pipeline ppl, double timeout, void (*fn)(void *), void *user_ptr);

#ifdef __cplusplus
}
#endif

#endif /* PIPY_NMI_H */
