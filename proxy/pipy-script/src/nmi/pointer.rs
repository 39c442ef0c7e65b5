//! The object that stands for a pointer of a module.

use rquickjs::class::Trace;
use rquickjs::{Class, Ctx, JsLifetime, Result, Value};

#[derive(Trace, JsLifetime)]
#[rquickjs::class(rename = "Native")]
pub(super) struct Pointer {
    #[qjs(skip_trace)]
    native: pipy_nmi::Native,
}

/// An object around a pointer; when it is gone the pointer is freed.
pub(super) fn object<'js>(ctx: &Ctx<'js>, native: pipy_nmi::Native) -> Result<Value<'js>> {
    Ok(Class::instance(ctx.clone(), Pointer { native })?.into_value())
}

/// The pointer in an object, if it is one of these.
pub(super) fn of(value: &Value<'_>) -> Option<pipy_nmi::Native> {
    let class = Class::<Pointer>::from_value(value).ok()?;
    let native = class.borrow().native.borrowed();
    Some(native)
}
