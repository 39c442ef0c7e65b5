/*
 * A native module that tries each function of the interface and says what came of it.
 *
 * Pipelines: "" tries the functions on the first event and gives a message with one line for each failure, or "ok"; "echo" gives
 * back what comes; "thread" answers from a thread of its own; "later" answers after a while; "leave" is held beyond its end;
 * "wrong" uses numbers that stand for nothing.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pipy/nmi.h>

static __thread char *report;
static __thread size_t report_size;
static __thread FILE *out;

#define CHECK(condition) ((condition) ? (void)0 : (void)fprintf(out, "line %d: %s\n", __LINE__, #condition))

static int freed;
static void free_object(void *ptr) { __sync_fetch_and_add(&freed, *(int *)ptr); }

static int is_text(pjs_value v, const char *text) {
  char buffer[100] = {0};
  pjs_string_get_utf8_data(v, buffer, sizeof buffer - 1);
  return pjs_is_string(v) && strcmp(buffer, text) == 0;
}

static int is_bytes(pjs_value data, const char *text) {
  char buffer[100] = {0};
  int size = pipy_Data_get_data(data, buffer, sizeof buffer - 1);
  return pipy_is_Data(data) && size == pipy_Data_get_size(data) && strcmp(buffer, text) == 0;
}

static void try_values(void) {
  CHECK(pjs_type_of(pjs_undefined()) == PJS_TYPE_UNDEFINED && pjs_is_undefined(pjs_undefined()));
  CHECK(pjs_type_of(pjs_null()) == PJS_TYPE_OBJECT && pjs_is_null(pjs_null()) && !pjs_is_object(pjs_null()));
  CHECK(pjs_is_nullish(pjs_null()) && pjs_is_nullish(pjs_undefined()) && !pjs_is_nullish(pjs_number(0)));
  CHECK(pjs_type_of(pjs_boolean(7)) == PJS_TYPE_BOOLEAN && pjs_to_boolean(pjs_boolean(7)) && !pjs_to_boolean(pjs_boolean(0)));
  CHECK(pjs_type_of(pjs_number(1.5)) == PJS_TYPE_NUMBER && pjs_to_number(pjs_number(1.5)) == 1.5);
  CHECK(pjs_to_number(pjs_string("42", -1)) == 42 && pjs_to_boolean(pjs_string("x", -1)) && !pjs_to_boolean(pjs_string("", -1)));
  CHECK(is_text(pjs_to_string(pjs_number(42)), "42") && is_text(pjs_to_string(pjs_null()), "null"));
  CHECK(pjs_type_of(pjs_string("a", -1)) == PJS_TYPE_STRING && pjs_is_empty_string(pjs_string("", -1)) && !pjs_is_empty_string(pjs_number(0)));
  CHECK(pjs_type_of(pjs_object()) == PJS_TYPE_OBJECT && pjs_is_object(pjs_object()) && !pjs_is_array(pjs_object()));
  CHECK(pjs_is_array(pjs_array(3)) && pjs_array_get_length(pjs_array(3)) == 3);
  CHECK(pjs_is_equal(pjs_number(1), pjs_string("1", -1)) && !pjs_is_identical(pjs_number(1), pjs_string("1", -1)));
  CHECK(pjs_is_identical(pjs_string("ab", -1), pjs_string("abc", 2)));
  pjs_value a = pjs_number(1), b = pjs_copy(a, pjs_string("copied", -1));
  CHECK(a == b && is_text(a, "copied"));
}

static void try_strings(void) {
  pjs_value text = pjs_string("gr\xc3\xbc\xc3\x9f\xf0\x9f\x98\x80", -1);
  char buffer[3] = {0};
  CHECK(pjs_string_get_length(text) == 5 && pjs_string_get_utf8_size(text) == 10);
  CHECK(pjs_string_get_char_code(text, 2) == 0xfc && pjs_string_get_char_code(text, 4) == 0x1f600);
  CHECK(pjs_string_get_char_code(text, 5) == -1 && pjs_string_get_char_code(text, -1) == -1);
  CHECK(pjs_string_get_utf8_data(text, buffer, 2) == 2 && strcmp(buffer, "gr") == 0);
  CHECK(pjs_string_get_length(pjs_string("\xff", 1)) == 1);
}

static int visit(pjs_value k, pjs_value v, void *user) {
  char *keys = user;
  size_t end = strlen(keys);
  end += pjs_string_get_utf8_data(k, keys + end, 10);
  sprintf(keys + end, "=%g;", pjs_to_number(v));
  return strlen(keys) < 8;
}

static void try_objects(void) {
  pjs_value object = pjs_object(), v = pjs_undefined();
  char keys[100] = {0};
  CHECK(!pjs_object_get_property(object, pjs_string("a", -1), v) && pjs_is_undefined(v));
  CHECK(pjs_object_set_property(object, pjs_string("a", -1), pjs_number(1)));
  CHECK(pjs_object_set_property(object, pjs_string("b", -1), pjs_number(2)));
  CHECK(pjs_object_set_property(object, pjs_string("c", -1), pjs_number(3)));
  CHECK(pjs_object_get_property(object, pjs_string("b", -1), v) && pjs_to_number(v) == 2);
  pjs_object_iterate(object, visit, keys);
  CHECK(strcmp(keys, "a=1;b=2;") == 0);
  CHECK(pjs_object_delete(object, pjs_string("b", -1)) && !pjs_object_delete(object, pjs_string("b", -1)));
  CHECK(!pjs_object_get_property(object, pjs_string("b", -1), v) && pjs_is_undefined(v));
  CHECK(!pjs_object_set_property(pjs_number(1), pjs_string("a", -1), v));
}

static void try_arrays(void) {
  pjs_value array = pjs_array(0), v = pjs_undefined();
  CHECK(pjs_array_push(array, pjs_number(1)) == 1 && pjs_array_push(array, pjs_number(2)) == 2);
  CHECK(pjs_array_unshift(array, pjs_number(0)) == 3 && pjs_array_push(pjs_object(), v) == -1);
  CHECK(pjs_array_get_element(array, 2, v) && pjs_to_number(v) == 2 && !pjs_array_get_element(array, -1, v));
  CHECK(pjs_array_set_element(array, 2, pjs_number(9)) && pjs_array_get_element(array, 2, v) && pjs_to_number(v) == 9);
  CHECK(pjs_to_number(pjs_array_pop(array)) == 9 && pjs_to_number(pjs_array_shift(array)) == 0);
  CHECK(pjs_array_get_length(array) == 1);
  pjs_value more[2] = {pjs_string("x", -1), pjs_string("y", -1)};
  pjs_value taken = pjs_array_splice(array, 0, 1, 2, more);
  CHECK(pjs_array_get_length(taken) == 1 && pjs_array_get_length(array) == 2);
  CHECK(pjs_array_get_element(array, 1, v) && is_text(v, "y"));
  CHECK(pjs_array_delete(array, 0) && !pjs_array_get_element(array, 0, v) && pjs_array_get_length(array) == 2);
  CHECK(pjs_array_set_length(array, 5) && pjs_array_get_length(array) == 5 && !pjs_array_set_length(pjs_object(), 1));
}

static void try_classes(void) {
  static int seven = 7;
  pjs_value native = pjs_native(&seven, free_object);
  CHECK(pjs_is_native(native) && !pjs_is_native(pjs_object()) && pjs_native_ptr(native) == &seven && !pjs_native_ptr(pjs_object()));
  CHECK(pjs_is_object(native));
  pjs_value start = pipy_MessageStart_new(pjs_object());
  CHECK(pjs_class_of(start) == pjs_class_id("MessageStart") && pjs_class_of(start) != pjs_class_id("MessageEnd"));
  CHECK(pjs_is_instance_of(start, pjs_class_id("MessageStart")) && !pjs_is_instance_of(start, pjs_class_id("Data")));
  CHECK(pjs_is_instance_of(pjs_array(0), pjs_class_id("Object")) && pjs_class_of(pjs_number(1)) == 0);
  pjs_value parse = pjs_undefined();
  CHECK(!pjs_is_function(parse) && !pjs_is_function(pjs_object()));
}

static void try_events(void) {
  pjs_value head = pjs_object(), data = pipy_Data_new("hello world", 11);
  pjs_object_set_property(head, pjs_string("k", -1), pjs_number(1));
  CHECK(is_bytes(data, "hello world"));
  CHECK(is_bytes(pipy_Data_shift(data, 6), "hello ") && is_bytes(pipy_Data_pop(data, 2), "ld") && is_bytes(data, "wor"));
  pipy_Data_push(data, pipy_Data_new("d!", 2));
  CHECK(is_bytes(data, "word!") && is_bytes(pipy_Data_shift(data, 100), "word!") && pipy_Data_get_size(data) == 0);
  pjs_value start = pipy_MessageStart_new(head), v = pjs_undefined();
  CHECK(pipy_is_MessageStart(start) && !pipy_is_Data(start) && !pipy_is_MessageStart(head));
  CHECK(pjs_object_get_property(pipy_MessageStart_get_head(start), pjs_string("k", -1), v) && pjs_to_number(v) == 1);
  pjs_value end = pipy_MessageEnd_new(pjs_number(1), pjs_number(2));
  CHECK(pipy_is_MessageEnd(end) && pjs_to_number(pipy_MessageEnd_get_tail(end)) == 1);
  CHECK(pjs_to_number(pipy_MessageEnd_get_payload(end)) == 2 && pjs_is_undefined(pipy_MessageStart_get_head(end)));
  pjs_value close = pipy_StreamEnd_new(pjs_string("ReadError", -1));
  CHECK(pipy_is_StreamEnd(close) && is_text(pipy_StreamEnd_get_error(close), "ReadError"));
}

static int seen, given, own;

static void try_variables(pipy_pipeline ppl) {
  pjs_value v = pjs_undefined();
  pipy_get_variable(ppl, given, v);
  CHECK(is_text(v, "from the script"));
  pipy_set_variable(ppl, seen, pjs_string("from the module", -1));
  pipy_get_variable(ppl, own, v);
  CHECK(pjs_to_number(v) == 5);
  pipy_set_variable(ppl, own, pjs_number(6));
  pipy_get_variable(ppl, own, v);
  CHECK(pjs_to_number(v) == 6);
  pipy_get_variable(ppl, 99, v);
  CHECK(pjs_is_undefined(v));
}

static void answer(pipy_pipeline ppl, const char *text, int len) {
  pipy_output_event(ppl, pipy_MessageStart_new(pjs_object()));
  pipy_output_event(ppl, pipy_Data_new(text, len));
  pipy_output_event(ppl, pipy_MessageEnd_new(pjs_undefined(), pjs_undefined()));
}

static void try_all(pipy_pipeline ppl, void *user, pjs_value evt) {
  (void)user;
  if (pipy_is_StreamEnd(evt)) pipy_output_event(ppl, evt);
  if (!pipy_is_MessageEnd(evt)) return;
  out = open_memstream(&report, &report_size);
  try_values();
  try_strings();
  try_objects();
  try_arrays();
  try_classes();
  try_events();
  try_variables(ppl);
  fclose(out);
  answer(ppl, report_size ? report : "ok", report_size ? (int)report_size : 2);
  free(report);
}

static void echo(pipy_pipeline ppl, void *user, pjs_value evt) {
  (void)user;
  pipy_output_event(ppl, evt);
}

/* ---- Threads ---- */

struct job {
  pipy_pipeline ppl;
  int number;
  char text[64];
};

static int jobs_begun, jobs_done;

static void job_is_done(void *ptr) {
  struct job *job = ptr;
  answer(job->ppl, job->text, (int)strlen(job->text));
  __sync_fetch_and_add(&jobs_done, 1);
  pipy_free(job->ppl);
  free(job);
}

static void *work(void *ptr) {
  struct job *job = ptr;
  usleep(2000);
  sprintf(job->text, "thread %d", job->number);
  pipy_schedule(job->ppl, 0, job_is_done, job);
  return NULL;
}

static void hand_out(pipy_pipeline ppl, void *user, pjs_value evt) {
  (void)user;
  if (!pipy_is_MessageEnd(evt)) return;
  struct job *job = calloc(1, sizeof *job);
  pthread_t thread;
  job->ppl = ppl;
  job->number = __sync_add_and_fetch(&jobs_begun, 1);
  pipy_hold(ppl);
  pthread_create(&thread, NULL, work, job);
  pthread_detach(thread);
}

static void later(pipy_pipeline ppl, void *user, pjs_value evt) {
  (void)user;
  if (!pipy_is_MessageEnd(evt)) return;
  struct job *job = calloc(1, sizeof *job);
  job->ppl = ppl;
  strcpy(job->text, "later");
  pipy_hold(ppl);
  pipy_schedule(ppl, 0.2, job_is_done, job);
}

/* ---- Lives ---- */

static int begun, ended;

static void begin(pipy_pipeline ppl, void **user) {
  (void)ppl;
  *user = malloc(1);
  __sync_fetch_and_add(&begun, 1);
}

static void end(pipy_pipeline ppl, void *user) {
  (void)ppl;
  free(user);
  __sync_fetch_and_add(&ended, 1);
}

static void count(pipy_pipeline ppl, void *user, pjs_value evt) {
  char text[100];
  (void)user;
  if (!pipy_is_MessageEnd(evt)) return;
  answer(ppl, text, sprintf(text, "begun %d ended %d freed %d jobs %d", begun, ended, freed / 7, jobs_done));
}

static void wrong(pipy_pipeline ppl, void *user, pjs_value evt) {
  (void)user;
  if (!pipy_is_MessageEnd(evt)) return;
  int bad[] = {0, -1, 12345678, 2147483647};
  for (int i = 0; i < 4; i++) {
    pjs_value v = bad[i];
    pjs_hold(v), pjs_free(v), pjs_free(v), pjs_copy(v, evt), pjs_object_set_property(v, v, v), pjs_object_iterate(v, visit, NULL);
    pjs_array_push(v, v), pjs_array_splice(v, -5, 9, 1, &v), pipy_Data_push(v, v), pipy_Data_pop(v, -1), pjs_string_get_utf8_data(v, NULL, 5);
    pipy_output_event(v, evt), pipy_output_event(ppl, v), pipy_get_variable(v, v, v), pipy_set_variable(ppl, v, v);
    pipy_free(v), pipy_hold(v), pipy_schedule(v, 0, free, NULL), pjs_is_instance_of(evt, v), pjs_to_string(v), pjs_class_of(v);
  }
  pipy_define_variable(-1, "late", NULL, 0);
  pipy_define_pipeline("late", NULL, NULL, NULL);
  pipy_output_event(ppl, pjs_string("no event", -1));
}

void pipy_module_init(void) {
  seen = pipy_define_variable(-1, "__seen", "probe", pjs_string("nothing", -1));
  given = pipy_define_variable(-1, "__given", "probe", pjs_undefined());
  own = pipy_define_variable(40, "own", NULL, pjs_number(5));
  pipy_define_pipeline(NULL, begin, end, try_all);
  pipy_define_pipeline("echo", begin, end, echo);
  pipy_define_pipeline("thread", begin, end, hand_out);
  pipy_define_pipeline("later", begin, end, later);
  pipy_define_pipeline("count", NULL, NULL, count);
  pipy_define_pipeline("wrong", NULL, NULL, wrong);
}
