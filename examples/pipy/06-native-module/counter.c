/*
 * A native module: counts the words of each message that passes, and tells the script.
 *
 * In: messages. Out: the same messages. The variable `__words` of the namespace `counter` has the count when a message has ended.
 */

#include <ctype.h>
#include <stdlib.h>

#include <pipy/nmi.h>

enum { VARIABLE_WORDS };

struct counter {
  int words;
  int in_word;
};

static void begin(pipy_pipeline ppl, void **user_ptr) {
  (void)ppl;
  *user_ptr = calloc(1, sizeof(struct counter));
}

static void end(pipy_pipeline ppl, void *user_ptr) {
  (void)ppl;
  free(user_ptr);
}

static void count(struct counter *counter, pjs_value data) {
  int size = pipy_Data_get_size(data);
  char *bytes = malloc(size);
  size = bytes ? pipy_Data_get_data(data, bytes, size) : 0;
  for (int i = 0; i < size; i++) {
    int in_word = !isspace((unsigned char)bytes[i]);
    counter->words += in_word && !counter->in_word;
    counter->in_word = in_word;
  }
  free(bytes);
}

static void process(pipy_pipeline ppl, void *user_ptr, pjs_value evt) {
  struct counter *counter = user_ptr;
  if (pipy_is_MessageStart(evt)) {
    counter->words = counter->in_word = 0;
  } else if (pipy_is_Data(evt)) {
    count(counter, evt);
  } else if (pipy_is_MessageEnd(evt)) {
    pipy_set_variable(ppl, VARIABLE_WORDS, pjs_number(counter->words));
  }
  pipy_output_event(ppl, evt);
}

void pipy_module_init(void) {
  pipy_define_variable(VARIABLE_WORDS, "__words", "counter", pjs_number(0));
  pipy_define_pipeline("", begin, end, process);
}
