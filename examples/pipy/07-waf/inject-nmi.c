/*
 * A native module that looks for SQL injection and cross-site scripting in HTTP requests, by libinjection.
 *
 * In: requests. Out: the same requests, once they are complete and were looked at. What was found is in variables of the
 * namespace `lib-inject`: __is_sqli, __is_xss, __is_oversized (booleans) and __sqli_fingerprint.
 *
 * Looked at is what applications take values from: path, query, cookies, and the fields of a body that is a form, a multipart form
 * or JSON; any other body as a whole. Names count as values do. Bodies above BODY_BYTES_MAX are not looked at, and not passed on
 * whole: they count as an injection, for padding would be a way around otherwise.
 */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <pipy/nmi.h>

/* Of libinjection, which Debian has within libmodsecurity3. */
int libinjection_sqli(const char *text, size_t len, char fingerprint[]);
int libinjection_xss(const char *text, size_t len);

#define BODY_BYTES_MAX (1024 * 1024)

enum { IS_SQLI, IS_XSS, IS_OVERSIZED, FINGERPRINT };

struct request {
  pjs_value start; /* held, 0 between messages */
  char *body;
  size_t size, room;
  int oversized;
};

struct findings {
  int sqli, xss;
  char fingerprint[16];
};

static void look(struct findings *found, const char *text, size_t len) {
  char fingerprint[16] = {0};
  if (len == 0) return;
  if (!found->sqli && libinjection_sqli(text, len, fingerprint)) {
    found->sqli = 1;
    memcpy(found->fingerprint, fingerprint, sizeof fingerprint);
  }
  if (!found->xss && libinjection_xss(text, len)) found->xss = 1;
}

static int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Names and values of a query, a form or cookies: apart, and without what they are escaped with. */
static void look_at_pairs(struct findings *found, const char *text, size_t len, char separator, int plus) {
  char *plain = malloc(len + 1);
  size_t n = 0;
  if (!plain) return;
  for (size_t i = 0; i <= len; i++) {
    if (i == len || text[i] == separator || text[i] == '=') {
      look(found, plain, n);
      n = 0;
    } else if (text[i] == '%' && i + 2 < len && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      plain[n++] = (char)(digit(text[i + 1]) << 4 | digit(text[i + 2]));
      i += 2;
    } else {
      plain[n++] = plus && text[i] == '+' ? ' ' : text[i];
    }
  }
  free(plain);
}

/* A value may have signs of equality in it: it is looked at as a whole, too. */
static void look_at_whole_pairs(struct findings *found, const char *text, size_t len, char separator, int plus) {
  const char *end = text + len;
  look_at_pairs(found, text, len, separator, plus);
  while (text < end) {
    const char *stop = memchr(text, separator, end - text);
    const char *value = memchr(text, '=', (stop ? stop : end) - text);
    if (value) {
      char *plain = malloc(end - value), *to = plain;
      for (const char *c = value + 1; plain && c < (stop ? stop : end); c++) {
        if (*c == '%' && (stop ? stop : end) - c > 2 && digit(c[1]) >= 0 && digit(c[2]) >= 0) {
          *to++ = (char)(digit(c[1]) << 4 | digit(c[2]));
          c += 2;
        } else {
          *to++ = plus && *c == '+' ? ' ' : *c;
        }
      }
      look(found, plain, plain ? (size_t)(to - plain) : 0);
      free(plain);
    }
    text = stop ? stop + 1 : end;
  }
}

/* The strings of a JSON text. */
static void look_at_json(struct findings *found, const char *text, size_t len) {
  char *plain = malloc(len + 1);
  size_t n = 0;
  int within = 0;
  if (!plain) return;
  for (size_t i = 0; i < len; i++) {
    if (text[i] == '"') {
      if (within) look(found, plain, n);
      within = !within;
      n = 0;
    } else if (within && text[i] == '\\' && i + 1 < len) {
      char c = text[++i];
      if (c == 'u' && i + 4 < len) {
        int code = digit(text[i + 1]) << 12 | digit(text[i + 2]) << 8 | digit(text[i + 3]) << 4 | digit(text[i + 4]);
        /* What is no ASCII is no syntax of SQL or HTML. */
        plain[n++] = code > 0 && code < 128 ? (char)code : '?';
        i += 4;
      } else {
        plain[n++] = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
      }
    } else if (within) {
      plain[n++] = text[i];
    }
  }
  free(plain);
}

static const char *find(const char *text, size_t len, const char *what, size_t size) {
  for (size_t i = 0; size > 0 && i + size <= len; i++)
    if (memcmp(text + i, what, size) == 0) return text + i;
  return NULL;
}

/* The bodies of a multipart form's parts, and what stands in quotes in their heads. */
static void look_at_parts(struct findings *found, const char *text, size_t len, const char *boundary, size_t size) {
  const char *end = text + len, *part = find(text, len, boundary, size);
  if (!part) look(found, text, len);
  while (part) {
    const char *next = find(part + size, end - part - size, boundary, size);
    const char *stop = next ? next : end;
    const char *body = find(part, stop - part, "\r\n\r\n", 4);
    const char *quote = memchr(part, '"', (body ? body : stop) - part);
    while (quote && body && quote < body) {
      const char *close = memchr(quote + 1, '"', body - quote - 1);
      if (!close) break;
      look(found, quote + 1, close - quote - 1);
      quote = memchr(close + 1, '"', body - close - 1);
    }
    if (body) {
      body += 4;
      /* Before the next boundary stand a line's end and two dashes. */
      size_t tail = next && stop - body >= 4 ? 4 : 0;
      look(found, body, stop - body - tail);
    }
    part = next;
  }
}

/* A property as text of C; to be freed. */
static char *text_of(pjs_value object, const char *name, size_t *len) {
  pjs_value value = pjs_undefined();
  *len = 0;
  if (!pjs_object_get_property(object, pjs_string(name, -1), value) || pjs_is_nullish(value)) return NULL;
  value = pjs_to_string(value);
  int size = pjs_string_get_utf8_size(value);
  char *text = malloc(size + 1);
  if (!text) return NULL;
  *len = pjs_string_get_utf8_data(value, text, size);
  text[*len] = 0;
  return text;
}

static void look_at_head(struct findings *found, pjs_value head, pjs_value headers) {
  size_t len;
  char *path = text_of(head, "path", &len);
  if (path) {
    char *query = memchr(path, '?', len);
    size_t before = query ? (size_t)(query - path) : len;
    look_at_pairs(found, path, before, '/', 0);
    if (query) look_at_whole_pairs(found, query + 1, len - before - 1, '&', 1);
  }
  free(path);
  char *cookies = text_of(headers, "cookie", &len);
  if (cookies) look_at_whole_pairs(found, cookies, len, ';', 0);
  free(cookies);
}

static void look_at_body(struct findings *found, pjs_value headers, const struct request *request) {
  size_t len;
  char *type = text_of(headers, "content-type", &len);
  char *boundary = type ? strcasestr(type, "boundary=") : NULL;
  if (type && strcasestr(type, "x-www-form-urlencoded")) {
    look_at_whole_pairs(found, request->body, request->size, '&', 1);
  } else if (type && strcasestr(type, "json")) {
    look_at_json(found, request->body, request->size);
  } else if (boundary) {
    boundary += strlen("boundary=");
    if (*boundary == '"') boundary++;
    look_at_parts(found, request->body, request->size, boundary, strcspn(boundary, "\"; \t"));
  } else {
    look(found, request->body, request->size);
  }
  free(type);
}

static void forget(struct request *request) {
  if (request->start) pjs_free(request->start);
  free(request->body);
  memset(request, 0, sizeof *request);
}

static void collect(struct request *request, pjs_value data) {
  size_t size = pipy_Data_get_size(data);
  if (request->oversized || request->size + size > BODY_BYTES_MAX) {
    request->oversized = 1;
    return;
  }
  if (request->size + size > request->room) {
    size_t room = (request->size + size) * 2;
    char *body = realloc(request->body, room);
    if (!body) {
      request->oversized = 1;
      return;
    }
    request->body = body;
    request->room = room;
  }
  request->size += pipy_Data_get_data(data, request->body + request->size, size);
}

static void finish(pipy_pipeline ppl, struct request *request, pjs_value evt) {
  struct findings found = {0};
  pjs_value head = pipy_MessageStart_get_head(request->start);
  pjs_value headers = pjs_undefined();
  pjs_object_get_property(head, pjs_string("headers", -1), headers);
  look_at_head(&found, head, headers);
  if (request->oversized) {
    found.sqli = 1;
    strcpy(found.fingerprint, "oversized");
  } else {
    look_at_body(&found, headers, request);
  }
  pipy_set_variable(ppl, IS_SQLI, pjs_boolean(found.sqli));
  pipy_set_variable(ppl, IS_XSS, pjs_boolean(found.xss));
  pipy_set_variable(ppl, IS_OVERSIZED, pjs_boolean(request->oversized));
  pipy_set_variable(ppl, FINGERPRINT, pjs_string(found.fingerprint, -1));
  pipy_output_event(ppl, request->start);
  if (request->size > 0) pipy_output_event(ppl, pipy_Data_new(request->body, (int)request->size));
  pipy_output_event(ppl, evt);
  forget(request);
}

static void begin(pipy_pipeline ppl, void **user_ptr) {
  (void)ppl;
  *user_ptr = calloc(1, sizeof(struct request));
}

static void end(pipy_pipeline ppl, void *user_ptr) {
  (void)ppl;
  if (user_ptr) forget(user_ptr);
  free(user_ptr);
}

static void process(pipy_pipeline ppl, void *user_ptr, pjs_value evt) {
  struct request *request = user_ptr;
  if (!request) return;
  if (pipy_is_MessageStart(evt)) {
    forget(request);
    request->start = pjs_hold(evt);
  } else if (request->start && pipy_is_Data(evt)) {
    collect(request, evt);
  } else if (request->start && pipy_is_MessageEnd(evt)) {
    finish(ppl, request, evt);
  } else {
    pipy_output_event(ppl, evt);
  }
}

void pipy_module_init(void) {
  pipy_define_variable(IS_SQLI, "__is_sqli", "lib-inject", pjs_boolean(0));
  pipy_define_variable(IS_XSS, "__is_xss", "lib-inject", pjs_boolean(0));
  pipy_define_variable(IS_OVERSIZED, "__is_oversized", "lib-inject", pjs_boolean(0));
  pipy_define_variable(FINGERPRINT, "__sqli_fingerprint", "lib-inject", pjs_string("", 0));
  pipy_define_pipeline("", begin, end, process);
}
