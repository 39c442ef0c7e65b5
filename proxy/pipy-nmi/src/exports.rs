//! The functions of `include/pipy/nmi.h`: what C gives is taken apart here, and asked of the host.
//!
//! The symbols are small jumps in assembly: those of functions would not be left in a program that is optimised as a whole, and a
//! program exports none of them on its own. `proxy/pipy/build.rs` has the linker show them to libraries.

use std::ffi::{CStr, c_char, c_double, c_int, c_void};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::callbacks::{Native, ObjectFree, Pipeline, Task};
use crate::callbacks::{PipelineFree, PipelineInit, PipelineProcess, TaskFunction};
use crate::host::{EventKind, Handle, Host, Literal, Look, PipelineId, current};
use crate::remote::{self, Work};

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    ($name:ident) => {
        concat!("jmp {", stringify!($name), "}\n")
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    ($name:ident) => {
        concat!("b {", stringify!($name), "}\n")
    };
}

/// The symbols, each a jump to the function of the same name.
macro_rules! exports {
    ($($name:ident)*) => {
        std::arch::global_asm!(
            ".pushsection .text.pipy_nmi,\"ax\",%progbits\n",
            $(concat!(".globl ", stringify!($name), "\n.type ", stringify!($name), ",%function\n",
                stringify!($name), ":\n"), jump!($name),)*
            ".popsection\n",
            $($name = sym $name,)*
        );

        mod symbols {
            unsafe extern "C" {
                $(pub(super) safe static $name: u8;)*
            }
        }

        /// Has the linker take the symbols in.
        pub(crate) fn keep() {
            $(std::hint::black_box(&raw const symbols::$name);)*
        }
    };
}

exports! {
    pjs_undefined pjs_null pjs_boolean pjs_number pjs_string pjs_object pjs_array pjs_native pjs_copy pjs_hold pjs_free
    pjs_type_of pjs_class_of pjs_class_id pjs_is_undefined pjs_is_null pjs_is_nullish pjs_is_string pjs_is_empty_string
    pjs_is_object pjs_is_array pjs_is_function pjs_is_native pjs_is_instance_of pjs_is_equal pjs_is_identical
    pjs_to_boolean pjs_to_number pjs_to_string
    pjs_string_get_length pjs_string_get_char_code pjs_string_get_utf8_size pjs_string_get_utf8_data
    pjs_object_get_property pjs_object_set_property pjs_object_delete pjs_object_iterate
    pjs_array_get_length pjs_array_set_length pjs_array_get_element pjs_array_set_element pjs_array_delete
    pjs_array_push pjs_array_unshift pjs_array_pop pjs_array_shift pjs_array_splice pjs_native_ptr
    pipy_is_Data pipy_is_MessageStart pipy_is_MessageEnd pipy_is_StreamEnd
    pipy_Data_new pipy_Data_push pipy_Data_pop pipy_Data_shift pipy_Data_get_size pipy_Data_get_data
    pipy_MessageStart_new pipy_MessageStart_get_head pipy_MessageEnd_new pipy_MessageEnd_get_tail
    pipy_MessageEnd_get_payload pipy_StreamEnd_new pipy_StreamEnd_get_error
    pipy_define_variable pipy_define_pipeline
    pipy_output_event pipy_get_variable pipy_set_variable pipy_hold pipy_free pipy_schedule
}

/// Asks the host of this thread; a thread without one gets what stands for nothing.
fn ask<T: Default>(what: impl FnOnce(&dyn Host) -> T) -> T {
    current().map_or_else(T::default, |host| what(&*host))
}

fn make(literal: Literal<'_>) -> Handle {
    ask(|host| host.make(literal))
}

fn look(value: Handle) -> Look {
    current().map_or(Look::Undefined, |host| host.look(value))
}

fn is(value: Handle, what: impl FnOnce(Look) -> bool) -> c_int {
    c_int::from(what(look(value)))
}

fn count(number: usize) -> c_int {
    c_int::try_from(number).unwrap_or(c_int::MAX)
}

fn size(number: c_int) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Bytes that a module gives.
fn bytes<'b>(from: *const c_char, len: c_int) -> &'b [u8] {
    if from.is_null() || len <= 0 {
        return &[];
    }
    // SAFETY: (pointer) so many bytes are there until the call returns.
    unsafe { std::slice::from_raw_parts(from.cast(), size(len)) }
}

/// Text that a module gives: so many bytes, or up to a zero byte.
fn text<'b>(from: *const c_char, len: c_int) -> &'b [u8] {
    if from.is_null() || len >= 0 {
        return bytes(from, len);
    }
    // SAFETY: (pointer) a string without a length ends in a zero byte.
    unsafe { CStr::from_ptr(from) }.to_bytes()
}

fn name<'n>(from: *const c_char) -> std::borrow::Cow<'n, str> {
    String::from_utf8_lossy(text(from, -1))
}

/// Copies as much as fits to where a module wants it.
fn give(from: &[u8], to: *mut c_char, len: c_int) -> c_int {
    let fits = from.len().min(size(len));
    if to.is_null() || fits == 0 {
        return 0;
    }
    // SAFETY: (pointer) there is room for `len` bytes, of a buffer that is the module's own.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.cast(), fits) };
    count(fits)
}

extern "C" fn pjs_undefined() -> Handle {
    make(Literal::Undefined)
}

extern "C" fn pjs_null() -> Handle {
    make(Literal::Null)
}

extern "C" fn pjs_boolean(value: c_int) -> Handle {
    make(Literal::Boolean(value != 0))
}

extern "C" fn pjs_number(value: c_double) -> Handle {
    make(Literal::Number(value))
}

extern "C" fn pjs_string(from: *const c_char, len: c_int) -> Handle {
    make(Literal::Text(&String::from_utf8_lossy(text(from, len))))
}

extern "C" fn pjs_object() -> Handle {
    make(Literal::Object)
}

extern "C" fn pjs_array(len: c_int) -> Handle {
    make(Literal::Array(size(len)))
}

extern "C" fn pjs_native(pointer: *mut c_void, free: Option<ObjectFree>) -> Handle {
    make(Literal::Native(Native { pointer, free }))
}

extern "C" fn pjs_copy(value: Handle, source: Handle) -> Handle {
    ask(|host| host.copy(value, source));
    value
}

extern "C" fn pjs_hold(value: Handle) -> Handle {
    ask(|host| host.hold(value));
    value
}

extern "C" fn pjs_free(value: Handle) {
    ask(|host| host.free(value));
}

extern "C" fn pjs_type_of(value: Handle) -> c_int {
    match look(value) {
        Look::Undefined => 0,
        Look::Boolean(_) => 1,
        Look::Number(_) => 2,
        Look::Text => 3,
        Look::Null | Look::Object | Look::Array | Look::Function => 4,
    }
}

/// Names of classes: the same name has the same number on every thread.
static CLASSES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn class_number(name: String) -> c_int {
    let mut names = CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    let found = names.iter().position(|known| *known == name);
    let index = found.unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    });
    count(index + 1)
}

extern "C" fn pjs_class_of(value: Handle) -> c_int {
    ask(|host| host.class_of(value)).map_or(0, class_number)
}

extern "C" fn pjs_class_id(from: *const c_char) -> c_int {
    class_number(name(from).into_owned())
}

extern "C" fn pjs_is_undefined(value: Handle) -> c_int {
    is(value, |look| look == Look::Undefined)
}

extern "C" fn pjs_is_null(value: Handle) -> c_int {
    is(value, |look| look == Look::Null)
}

extern "C" fn pjs_is_nullish(value: Handle) -> c_int {
    is(value, |look| matches!(look, Look::Undefined | Look::Null))
}

extern "C" fn pjs_is_string(value: Handle) -> c_int {
    is(value, |look| look == Look::Text)
}

extern "C" fn pjs_is_empty_string(value: Handle) -> c_int {
    c_int::from(ask(|host| host.text(value, false)).is_some_and(|text| text.is_empty()))
}

extern "C" fn pjs_is_object(value: Handle) -> c_int {
    is(value, |look| matches!(look, Look::Object | Look::Array | Look::Function))
}

extern "C" fn pjs_is_array(value: Handle) -> c_int {
    is(value, |look| look == Look::Array)
}

extern "C" fn pjs_is_function(value: Handle) -> c_int {
    is(value, |look| look == Look::Function)
}

extern "C" fn pjs_is_native(value: Handle) -> c_int {
    c_int::from(ask(|host| host.native(value)).is_some())
}

extern "C" fn pjs_is_instance_of(value: Handle, class: c_int) -> c_int {
    let classes = CLASSES.lock().unwrap_or_else(PoisonError::into_inner);
    let name = classes.get(size(class).wrapping_sub(1)).cloned();
    drop(classes);
    c_int::from(name.is_some_and(|name| ask(|host| host.is_instance(value, &name))))
}

extern "C" fn pjs_is_equal(left: Handle, right: Handle) -> c_int {
    c_int::from(ask(|host| host.equal(left, right, false)))
}

extern "C" fn pjs_is_identical(left: Handle, right: Handle) -> c_int {
    c_int::from(ask(|host| host.equal(left, right, true)))
}

extern "C" fn pjs_to_boolean(value: Handle) -> c_int {
    c_int::from(ask(|host| host.truth(value)))
}

extern "C" fn pjs_to_number(value: Handle) -> c_double {
    ask(|host| host.number(value))
}

extern "C" fn pjs_to_string(value: Handle) -> Handle {
    ask(|host| host.text(value, true).map_or(0, |text| host.make(Literal::Text(&text))))
}

extern "C" fn pjs_string_get_length(value: Handle) -> c_int {
    ask(|host| host.text(value, false)).map_or(0, |text| count(text.chars().count()))
}

extern "C" fn pjs_string_get_char_code(value: Handle, position: c_int) -> c_int {
    let Ok(position) = usize::try_from(position) else { return -1 };
    let found = ask(|host| host.text(value, false)).and_then(|text| text.chars().nth(position));
    found.and_then(|letter| c_int::try_from(u32::from(letter)).ok()).unwrap_or(-1)
}

extern "C" fn pjs_string_get_utf8_size(value: Handle) -> c_int {
    ask(|host| host.text(value, false)).map_or(0, |text| count(text.len()))
}

extern "C" fn pjs_string_get_utf8_data(value: Handle, to: *mut c_char, len: c_int) -> c_int {
    ask(|host| host.text(value, false)).map_or(0, |text| give(text.as_bytes(), to, len))
}

extern "C" fn pjs_object_get_property(object: Handle, key: Handle, into: Handle) -> c_int {
    c_int::from(ask(|host| host.get(object, key, into)))
}

extern "C" fn pjs_object_set_property(object: Handle, key: Handle, value: Handle) -> c_int {
    c_int::from(ask(|host| host.set(object, key, value)))
}

extern "C" fn pjs_object_delete(object: Handle, key: Handle) -> c_int {
    c_int::from(ask(|host| host.delete(object, key)))
}

type Visit = unsafe extern "C" fn(Handle, Handle, *mut c_void) -> c_int;

extern "C" fn pjs_object_iterate(object: Handle, visit: Option<Visit>, user: *mut c_void) {
    let Some(visit) = visit else { return };
    for (key, value) in ask(|host| host.entries(object)) {
        // SAFETY: (callback) the function is one of the module, which gave it and the pointer for this.
        if unsafe { visit(key, value, user) } == 0 {
            return;
        }
    }
}

extern "C" fn pjs_array_get_length(array: Handle) -> c_int {
    ask(|host| host.length(array)).map_or(0, count)
}

extern "C" fn pjs_array_set_length(array: Handle, len: c_int) -> c_int {
    c_int::from(ask(|host| host.resize(array, size(len))))
}

/// Asks about an element: what an array has at an index that it cannot have is nothing.
fn element(array: Handle, index: c_int, what: impl FnOnce(&dyn Host, Handle) -> bool) -> c_int {
    let asked = ask(|host| {
        index >= 0 && host.length(array).is_some() && what(host, host.make(Literal::Number(index.into())))
    });
    c_int::from(asked)
}

extern "C" fn pjs_array_get_element(array: Handle, index: c_int, into: Handle) -> c_int {
    element(array, index, |host, key| host.get(array, key, into))
}

extern "C" fn pjs_array_set_element(array: Handle, index: c_int, value: Handle) -> c_int {
    element(array, index, |host, key| host.set(array, key, value))
}

extern "C" fn pjs_array_delete(array: Handle, index: c_int) -> c_int {
    element(array, index, |host, key| host.delete(array, key))
}

/// Adds an element; the new length, or -1.
fn add(array: Handle, method: &str, value: Handle) -> c_int {
    let added = ask(|host| host.method(array, method, &[value]).and_then(|_| host.length(array)));
    added.map_or(-1, count)
}

extern "C" fn pjs_array_push(array: Handle, value: Handle) -> c_int {
    add(array, "push", value)
}

extern "C" fn pjs_array_unshift(array: Handle, value: Handle) -> c_int {
    add(array, "unshift", value)
}

extern "C" fn pjs_array_pop(array: Handle) -> Handle {
    ask(|host| host.method(array, "pop", &[])).unwrap_or(0)
}

extern "C" fn pjs_array_shift(array: Handle) -> Handle {
    ask(|host| host.method(array, "shift", &[])).unwrap_or(0)
}

extern "C" fn pjs_array_splice(
    array: Handle,
    position: c_int,
    delete: c_int,
    insert: c_int,
    values: *const Handle,
) -> Handle {
    let values: &[Handle] = if values.is_null() || insert <= 0 {
        &[]
    } else {
        // SAFETY: (pointer) the module gives so many values.
        unsafe { std::slice::from_raw_parts(values, size(insert)) }
    };
    let spliced = ask(|host| {
        let number = |number: c_int| host.make(Literal::Number(number.into()));
        let mut arguments = vec![number(position), number(delete)];
        arguments.extend_from_slice(values);
        host.method(array, "splice", &arguments)
    });
    spliced.unwrap_or(0)
}

extern "C" fn pjs_native_ptr(object: Handle) -> *mut c_void {
    ask(|host| host.native(object)).map_or(std::ptr::null_mut(), |native| native.pointer)
}

fn is_event(object: Handle, kind: EventKind) -> c_int {
    c_int::from(current().is_some_and(|host| host.event(object) == kind))
}

/// A field of an event of that kind.
fn field(event: Handle, kind: EventKind, name: &str) -> Handle {
    ask(|host| if host.event(event) == kind { host.field(event, name) } else { 0 })
}

#[allow(non_snake_case)]
extern "C" fn pipy_is_Data(object: Handle) -> c_int {
    is_event(object, EventKind::Data)
}

#[allow(non_snake_case)]
extern "C" fn pipy_is_MessageStart(object: Handle) -> c_int {
    is_event(object, EventKind::Start)
}

#[allow(non_snake_case)]
extern "C" fn pipy_is_MessageEnd(object: Handle) -> c_int {
    is_event(object, EventKind::End)
}

#[allow(non_snake_case)]
extern "C" fn pipy_is_StreamEnd(object: Handle) -> c_int {
    is_event(object, EventKind::StreamEnd)
}

#[allow(non_snake_case)]
extern "C" fn pipy_Data_new(from: *const c_char, len: c_int) -> Handle {
    make(Literal::Data(bytes(from, len)))
}

#[allow(non_snake_case)]
extern "C" fn pipy_Data_push(data: Handle, more: Handle) {
    ask(|host| host.append(data, more));
}

#[allow(non_snake_case)]
extern "C" fn pipy_Data_pop(data: Handle, len: c_int) -> Handle {
    ask(|host| host.take(data, size(len), false))
}

#[allow(non_snake_case)]
extern "C" fn pipy_Data_shift(data: Handle, len: c_int) -> Handle {
    ask(|host| host.take(data, size(len), true))
}

#[allow(non_snake_case)]
extern "C" fn pipy_Data_get_size(data: Handle) -> c_int {
    let mut seen = 0;
    ask(|host| host.bytes(data, &mut |bytes| seen = count(bytes.len())));
    seen
}

#[allow(non_snake_case)]
extern "C" fn pipy_Data_get_data(data: Handle, to: *mut c_char, len: c_int) -> c_int {
    let mut given = 0;
    ask(|host| host.bytes(data, &mut |bytes| given = give(bytes, to, len)));
    given
}

#[allow(non_snake_case)]
extern "C" fn pipy_MessageStart_new(head: Handle) -> Handle {
    make(Literal::Start(head))
}

#[allow(non_snake_case)]
extern "C" fn pipy_MessageStart_get_head(event: Handle) -> Handle {
    field(event, EventKind::Start, "head")
}

#[allow(non_snake_case)]
extern "C" fn pipy_MessageEnd_new(tail: Handle, payload: Handle) -> Handle {
    make(Literal::End(tail, payload))
}

#[allow(non_snake_case)]
extern "C" fn pipy_MessageEnd_get_tail(event: Handle) -> Handle {
    field(event, EventKind::End, "tail")
}

#[allow(non_snake_case)]
extern "C" fn pipy_MessageEnd_get_payload(event: Handle) -> Handle {
    field(event, EventKind::End, "payload")
}

#[allow(non_snake_case)]
extern "C" fn pipy_StreamEnd_new(error: Handle) -> Handle {
    make(Literal::StreamEnd(error))
}

#[allow(non_snake_case)]
extern "C" fn pipy_StreamEnd_get_error(event: Handle) -> Handle {
    field(event, EventKind::StreamEnd, "error")
}

extern "C" fn pipy_define_variable(
    id: c_int,
    called: *const c_char,
    namespace: *const c_char,
    initial: Handle,
) -> c_int {
    let namespace = (!namespace.is_null()).then(|| name(namespace)).filter(|name| !name.is_empty());
    current().map_or(-1, |host| host.define_variable(id, &name(called), namespace.as_deref(), initial))
}

extern "C" fn pipy_define_pipeline(
    called: *const c_char,
    init: Option<PipelineInit>,
    free: Option<PipelineFree>,
    process: Option<PipelineProcess>,
) {
    ask(|host| host.define_pipeline(&name(called), Pipeline { init, free, process }));
}

extern "C" fn pipy_output_event(pipeline: PipelineId, event: Handle) {
    ask(|host| host.output(pipeline, event));
}

extern "C" fn pipy_get_variable(pipeline: PipelineId, id: c_int, into: Handle) {
    ask(|host| host.variable(pipeline, id, into));
}

extern "C" fn pipy_set_variable(pipeline: PipelineId, id: c_int, value: Handle) {
    ask(|host| host.set_variable(pipeline, id, value));
}

extern "C" fn pipy_hold(pipeline: PipelineId) {
    ask(|host| host.hold_pipeline(pipeline));
}

extern "C" fn pipy_free(pipeline: PipelineId) {
    if !ask(|host| host.free_pipeline(pipeline)) {
        remote::ask(pipeline, Work::Free(pipeline));
    }
}

extern "C" fn pipy_schedule(
    pipeline: PipelineId,
    timeout: c_double,
    function: Option<TaskFunction>,
    user: *mut c_void,
) {
    let Some(function) = function else { return };
    let after = Duration::try_from_secs_f64(timeout.max(0.0)).unwrap_or(Duration::ZERO);
    let task = Task { function, user };
    let left = match current() {
        Some(host) => host.schedule(pipeline, after, task),
        None => Some(task),
    };
    if let Some(task) = left {
        remote::ask(pipeline, Work::Call(pipeline, after, task));
    }
}
