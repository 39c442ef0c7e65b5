//! The engine's own calls, for what happens with every event.
//!
//! The safe library takes hold of the context for each value that it hands out, and asks what each object is; here both are left
//! out where the answer is known. In: values and names of one engine. Out: the same, or the exception that is pending.
//!
//! INVARIANT: what is held here is let go before its runtime is (`engine::bury`), and on its thread: nothing here can be sent.

#![allow(unsafe_code)]

use std::hash::{Hash, Hasher};
use std::os::raw::{c_int, c_void};
use std::ptr::{self, NonNull};

use bytes::Bytes;
use rquickjs::{Atom, Class, Ctx, Error, Object, Result, Value, qjs};
use smallvec::SmallVec;

use crate::data::Data;

/// A value that is held without its context.
pub(crate) struct Held {
    runtime: *mut qjs::JSRuntime,
    value: qjs::JSValue,
}

impl Held {
    /// Takes hold of a value.
    pub(crate) fn new<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Self {
        // SAFETY: value and context live; the count that is added here is taken away when this is dropped.
        unsafe {
            let context = ctx.as_raw().as_ptr();
            Held { runtime: qjs::JS_GetRuntime(context), value: qjs::JS_DupValue(context, value.as_raw()) }
        }
    }

    /// The value.
    pub(crate) fn get<'js>(&self, ctx: &Ctx<'js>) -> Value<'js> {
        self.check(ctx);
        // SAFETY: the value is of this context's runtime, and the count that is added is the new owner's.
        unsafe {
            let value = qjs::JS_DupValue(ctx.as_raw().as_ptr(), self.value);
            Value::from_raw(ctx.clone(), value)
        }
    }

    /// Whether this is the object at that place.
    pub(crate) fn is_at(&self, place: usize) -> bool {
        // SAFETY: what is held is an object wherever this is asked; of another value the number is compared and not followed.
        place == unsafe { qjs::JS_VALUE_GET_PTR(self.value) } as usize
    }

    fn check(&self, ctx: &Ctx<'_>) {
        // SAFETY: the context lives.
        debug_assert!(ptr::eq(self.runtime, unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) }));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the count is ours since `new`, and the runtime is there for as long as anything of it is held.
        unsafe { qjs::JS_FreeValueRT(self.runtime, self.value) };
    }
}

/// The name of a property, looked up once.
pub(crate) struct Name {
    runtime: *mut qjs::JSRuntime,
    atom: qjs::JSAtom,
}

impl Name {
    /// Looks a name up.
    pub(crate) fn new(ctx: &Ctx<'_>, text: &str) -> Result<Self> {
        let length = text.len() as qjs::size_t;
        // SAFETY: the context lives, and the engine copies the text, whose length it is told.
        let atom = unsafe { qjs::JS_NewAtomLen(ctx.as_raw().as_ptr(), text.as_ptr().cast(), length) };
        if atom == qjs::JS_ATOM_NULL {
            return Err(Error::Exception);
        }
        // SAFETY: the context lives.
        Ok(Name { runtime: unsafe { qjs::JS_GetRuntime(ctx.as_raw().as_ptr()) }, atom })
    }

    /// What tells it from others, for as long as it is held.
    pub(crate) fn number(&self) -> u32 {
        self.atom
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // SAFETY: as with values that are held.
        unsafe { qjs::JS_FreeAtomRT(self.runtime, self.atom) };
    }
}

/// The number of a name; see [`Name::number`].
pub(crate) fn number(atom: &Atom<'_>) -> u32 {
    // The library tells it to nobody but those who hash.
    struct Told(u32);
    impl Hasher for Told {
        fn finish(&self) -> u64 {
            u64::from(self.0)
        }
        fn write(&mut self, _: &[u8]) {}
        fn write_u32(&mut self, number: u32) {
            self.0 = number;
        }
    }
    let mut told = Told(0);
    atom.hash(&mut told);
    told.0
}

/// A new object with this prototype.
pub(crate) fn object<'js>(ctx: &Ctx<'js>, prototype: &Held) -> Result<Value<'js>> {
    prototype.check(ctx);
    // SAFETY: the prototype is of this context's runtime and only lent.
    owned(ctx, unsafe { qjs::JS_NewObjectProto(ctx.as_raw().as_ptr(), prototype.value) })
}

/// A property of a value.
pub(crate) fn get<'js>(ctx: &Ctx<'js>, value: &Value<'js>, name: &Name) -> Result<Value<'js>> {
    // SAFETY: value and name are of this context's runtime and only lent.
    owned(ctx, unsafe { qjs::JS_GetProperty(ctx.as_raw().as_ptr(), value.as_raw(), name.atom) })
}

/// Gives an object a property of its own, whatever its prototypes say.
pub(crate) fn define<'js>(
    ctx: &Ctx<'js>,
    object: &Value<'js>,
    name: &Name,
    value: &Value<'js>,
) -> Result<()> {
    // SAFETY: all are of this context's runtime; the engine takes the count of the value that is added here.
    done(unsafe {
        let context = ctx.as_raw().as_ptr();
        let value = qjs::JS_DupValue(context, value.as_raw());
        qjs::JS_DefinePropertyValue(context, object.as_raw(), name.atom, value, qjs::JS_PROP_C_W_E as c_int)
    })
}

/// Puts what is held into a property of another that is held.
pub(crate) fn point(ctx: &Ctx<'_>, object: &Held, name: &Name, at: &Held) -> Result<()> {
    object.check(ctx);
    at.check(ctx);
    // SAFETY: as in `define`.
    done(unsafe {
        let context = ctx.as_raw().as_ptr();
        qjs::JS_SetProperty(context, object.value, name.atom, qjs::JS_DupValue(context, at.value))
    })
}

/// Puts a value into an array.
pub(crate) fn put<'js>(ctx: &Ctx<'js>, array: &Held, index: u32, value: &Value<'js>) -> Result<()> {
    array.check(ctx);
    // SAFETY: as in `define`.
    done(unsafe {
        let context = ctx.as_raw().as_ptr();
        qjs::JS_SetPropertyUint32(context, array.value, index, qjs::JS_DupValue(context, value.as_raw()))
    })
}

/// An array with the same items, and at least so many.
pub(crate) fn copied(ctx: &Ctx<'_>, array: &Held, at_least: usize) -> Result<Held> {
    array.check(ctx);
    let context = ctx.as_raw().as_ptr();
    let mut length = 0i64;
    // SAFETY: the array is of this context's runtime, and the place for the length is ours.
    done(unsafe { qjs::JS_GetLength(context, array.value, &raw mut length) })?;
    let length = u32::try_from(length).unwrap_or(0);
    let mut items: SmallVec<[qjs::JSValue; 32]> = SmallVec::new();
    for index in 0..length {
        // SAFETY: as above; the count of what comes is ours until the new array takes it.
        items.push(unsafe { qjs::JS_GetPropertyUint32(context, array.value, index) });
    }
    while items.len() < at_least {
        items.push(qjs::JS_UNDEFINED);
    }
    let count = c_int::try_from(items.len()).map_err(|_| Error::Unknown)?;
    // SAFETY: there are so many items, and the engine takes the counts of all of them, also where it fails.
    let copy = unsafe { qjs::JS_NewArrayFrom(context, count, items.as_ptr()) };
    if is_exception(copy) {
        return Err(Error::Exception);
    }
    // SAFETY: the context lives; the count that came with the array is the one that is taken away in the end.
    Ok(Held { runtime: unsafe { qjs::JS_GetRuntime(context) }, value: copy })
}

/// LIMIT: arguments of a call by [`call`].
const ARGUMENTS_MAX: usize = 4;

/// Calls a function.
pub(crate) fn call<'js>(
    ctx: &Ctx<'js>,
    function: &Value<'js>,
    arguments: &[&Value<'js>],
) -> Result<Value<'js>> {
    let mut given = [qjs::JS_UNDEFINED; ARGUMENTS_MAX];
    debug_assert!(arguments.len() <= ARGUMENTS_MAX);
    for (place, argument) in given.iter_mut().zip(arguments) {
        *place = argument.as_raw();
    }
    let count = arguments.len().min(ARGUMENTS_MAX) as c_int;
    // SAFETY: function and arguments are of this context's runtime and lent for the call; there are at least so many of them.
    owned(ctx, unsafe {
        let context = ctx.as_raw().as_ptr();
        qjs::JS_Call(context, function.as_raw(), qjs::JS_UNDEFINED, count, given.as_mut_ptr())
    })
}

/// A function that makes `Data` of a text, whose prototype is this: what `new Data(text)` does, without asking what it is given.
pub(crate) fn data_of_text<'js>(ctx: &Ctx<'js>, prototype: &Object<'js>) -> Result<Value<'js>> {
    let mut kept = prototype.as_raw();
    // SAFETY: the function has the signature that is asked for; the engine takes hold of what it is to keep, and copies the
    // one place where that is.
    owned(ctx, unsafe {
        qjs::JS_NewCFunctionData(ctx.as_raw().as_ptr(), Some(text_to_data), 1, 0, 1, &raw mut kept)
    })
}

/// SAFETY: for the engine alone, which gives at least as many arguments as the function says that it takes, and what was kept.
unsafe extern "C" fn text_to_data(
    context: *mut qjs::JSContext,
    _this: qjs::JSValue,
    _count: c_int,
    arguments: *mut qjs::JSValue,
    _magic: c_int,
    kept: *mut qjs::JSValue,
) -> qjs::JSValue {
    let mut length = 0;
    // SAFETY: there is one argument, and `length` is ours.
    let text = unsafe { qjs::JS_ToCStringLen(context, &raw mut length, *arguments) };
    let (false, Some(pointer)) = (text.is_null(), NonNull::new(context)) else { return qjs::JS_EXCEPTION };
    // SAFETY: the engine has put so many bytes there, which are copied before they are given back.
    let bytes = unsafe {
        let bytes = Bytes::copy_from_slice(std::slice::from_raw_parts(text.cast(), length));
        qjs::JS_FreeCString(context, text);
        bytes
    };
    // SAFETY: the context lives while it calls, and what was kept as long as the function.
    let made = unsafe {
        let ctx = Ctx::from_raw(pointer);
        let prototype = Value::from_raw(ctx.clone(), qjs::JS_DupValue(context, *kept));
        Object::from_value(prototype)
            .and_then(|prototype| Class::instance_proto(Data::from(bytes), prototype))
    };
    match made {
        // SAFETY: the count that is added is the caller's; that of the object here is taken away as it goes.
        Ok(data) => unsafe { qjs::JS_DupValue(context, data.as_raw()) },
        Err(_) => qjs::JS_EXCEPTION,
    }
}

/// Room in the engine's own allocator that is never given back.
///
/// WHY: it takes small blocks from pages of 4 KiB, one size each, and frees a page with its last block. Where what a request
/// needs begins a new page, every request would make one and free it.
pub(crate) struct Ballast {
    runtime: *mut qjs::JSRuntime,
    blocks: Vec<NonNull<c_void>>,
}

impl Ballast {
    /// One block on a page of its own, of each size that objects have.
    pub(crate) fn new(ctx: &Ctx<'_>) -> Self {
        // Of 8 bytes the allocator makes use itself.
        const SIZES: [u64; 23] = [
            8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 136, 152, 168, 184, 200, 216, 232,
            248,
        ];
        const PAGE: u64 = 4096;
        let context = ctx.as_raw().as_ptr();
        // SAFETY: the context lives.
        let runtime = unsafe { qjs::JS_GetRuntime(context) };
        let mut ballast = Ballast { runtime, blocks: Vec::with_capacity(SIZES.len()) };
        for size in SIZES {
            // More than there is room for on one page: the last one is on a page that had none before.
            // SAFETY: the context lives; what comes is ours, and given back here or when this is dropped.
            let blocks =
                (0..=PAGE / size).map_while(|_| NonNull::new(unsafe { qjs::js_malloc(context, size) }));
            let mut blocks: Vec<NonNull<c_void>> = blocks.collect();
            ballast.blocks.extend(blocks.pop());
            for block in blocks {
                // SAFETY: it came from this runtime a moment ago, and nobody else has it.
                unsafe { qjs::js_free_rt(runtime, block.as_ptr()) };
            }
        }
        ballast
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        for block in &self.blocks {
            // SAFETY: it is ours since `new`; the runtime is there, as with values that are held.
            unsafe { qjs::js_free_rt(self.runtime, block.as_ptr()) };
        }
    }
}

/// Where the prototype of a value is; 0 where it has none.
pub(crate) fn prototype_at<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> Result<usize> {
    if !value.is_object() {
        return Ok(0);
    }
    // SAFETY: the value is of this context's runtime. A place is only compared with those of objects that are held, which
    // nothing else can be at.
    unsafe {
        let context = ctx.as_raw().as_ptr();
        let prototype = qjs::JS_GetPrototype(context, value.as_raw());
        if is_exception(prototype) {
            return Err(Error::Exception);
        }
        let place = if qjs::JS_VALUE_GET_NORM_TAG(prototype) == qjs::JS_TAG_OBJECT {
            qjs::JS_VALUE_GET_PTR(prototype) as usize
        } else {
            0
        };
        qjs::JS_FreeValue(context, prototype);
        Ok(place)
    }
}

/// Whether two values are the same object.
pub(crate) fn same(one: &Value<'_>, other: &Value<'_>) -> bool {
    // SAFETY: of objects the place is compared, and not followed.
    one.is_object()
        && other.is_object()
        && unsafe { qjs::JS_VALUE_GET_PTR(one.as_raw()) == qjs::JS_VALUE_GET_PTR(other.as_raw()) }
}

/// Takes hold of a value once more than the library knows.
///
/// WHY: where a property of an exotic object is set, rquickjs 0.14 drops the value, which QuickJS has only lent (its callers
/// free it themselves). A test of head.rs counts the engine's memory, and tells when that has changed.
pub(crate) fn hold(ctx: &Ctx<'_>, value: &Value<'_>) {
    // SAFETY: value and context live, and the count that is added here is the one that the library will take away.
    unsafe { qjs::JS_DupValue(ctx.as_raw().as_ptr(), value.as_raw()) };
}

fn is_exception(value: qjs::JSValue) -> bool {
    // SAFETY: only the tag is looked at.
    unsafe { qjs::JS_VALUE_GET_NORM_TAG(value) == qjs::JS_TAG_EXCEPTION }
}

/// What a call of the engine gave: a value whose count is ours, or the sign that an exception is pending.
fn owned<'js>(ctx: &Ctx<'js>, value: qjs::JSValue) -> Result<Value<'js>> {
    if is_exception(value) {
        return Err(Error::Exception);
    }
    // SAFETY: the value came from this context, with a count of its own.
    Ok(unsafe { Value::from_raw(ctx.clone(), value) })
}

fn done(code: c_int) -> Result<()> {
    if code < 0 { Err(Error::Exception) } else { Ok(()) }
}
