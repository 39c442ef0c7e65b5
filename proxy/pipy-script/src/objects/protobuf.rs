//! The native of `protobuf`: a message without schema, asked for its fields by number and kind.

use std::cell::RefCell;

use pipy_protocols::protobuf::{Kind, Message, WireType};
use rquickjs::class::Trace;
use rquickjs::function::Opt;
use rquickjs::{Class, Ctx, Exception, Function, JsLifetime, Object, Result, Value};

use super::value::{from_js, to_js};
use crate::data::Data;

/// A message.
#[derive(Trace, JsLifetime)]
#[rquickjs::class]
struct Fields {
    #[qjs(skip_trace)]
    message: RefCell<Message>,
}

fn refused(ctx: &Ctx<'_>, error: &pipy_protocols::Error) -> rquickjs::Error {
    Exception::throw_message(ctx, &error.to_string())
}

fn kind(ctx: &Ctx<'_>, name: &str) -> Result<Kind> {
    Kind::named(name).ok_or_else(|| Exception::throw_type(ctx, &format!("protobuf: unknown kind: {name}")))
}

fn of(message: Message) -> Fields {
    Fields { message: RefCell::new(message) }
}

#[rquickjs::methods]
impl Fields {
    fn get<'js>(&self, ctx: Ctx<'js>, field: u32, name: String) -> Result<Value<'js>> {
        let kind = kind(&ctx, &name)?;
        to_js(&ctx, &self.message.borrow().get(field, kind))
    }

    #[qjs(rename = "getAll")]
    fn get_all<'js>(&self, ctx: Ctx<'js>, field: u32, name: String) -> Result<Value<'js>> {
        let kind = kind(&ctx, &name)?;
        to_js(&ctx, &pipy_protocols::Value::Array(self.message.borrow().get_array(field, kind)))
    }

    #[qjs(rename = "getMessages")]
    fn get_messages<'js>(&self, ctx: Ctx<'js>, field: u32) -> Result<Vec<Class<'js, Fields>>> {
        let found = self.message.borrow().get_message_array(field).map_err(|error| refused(&ctx, &error))?;
        found.into_iter().map(|message| Class::instance(ctx.clone(), of(message))).collect()
    }

    fn set<'js>(&self, ctx: Ctx<'js>, field: u32, name: String, value: Value<'js>) -> Result<()> {
        let kind = kind(&ctx, &name)?;
        let value = from_js(&ctx, &value)?.unwrap_or_default();
        self.message.borrow_mut().set(field, kind, &value).map_err(|error| refused(&ctx, &error))
    }

    #[qjs(rename = "setAll")]
    fn set_all<'js>(&self, ctx: Ctx<'js>, field: u32, name: String, values: Value<'js>) -> Result<()> {
        let kind = kind(&ctx, &name)?;
        let values = from_js(&ctx, &values)?.unwrap_or_default();
        let values = values.as_array().unwrap_or_default();
        self.message.borrow_mut().set_array(field, kind, values).map_err(|error| refused(&ctx, &error))
    }

    #[qjs(rename = "setMessages")]
    fn set_messages<'js>(&self, field: u32, messages: Vec<Class<'js, Fields>>) {
        let messages: Vec<Message> =
            messages.iter().map(|message| message.borrow().message.borrow().clone()).collect();
        self.message.borrow_mut().set_messages(field, &messages);
    }

    #[qjs(rename = "wireType")]
    fn wire_type(&self, field: u32) -> &'static str {
        match self.message.borrow().wire_type(field) {
            WireType::None => "",
            WireType::Varint => "VARINT",
            WireType::I64 => "I64",
            WireType::Len => "LEN",
            WireType::I32 => "I32",
        }
    }

    fn encode<'js>(&self, ctx: Ctx<'js>) -> Result<Value<'js>> {
        Data::new_js(&ctx, self.message.borrow().encode())
    }
}

/// Gives it to the JavaScript of this folder.
pub(super) fn install<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    let fields = |ctx: Ctx<'js>, data: Opt<Value<'js>>| -> Result<Class<'js, Fields>> {
        let message = match data.0 {
            None => Message::new(),
            Some(data) => Message::decode(&Data::body_of(&data)?).map_err(|error| refused(&ctx, &error))?,
        };
        Class::instance(ctx, of(message))
    };
    native.set("fields", Function::new(ctx.clone(), fields)?)
}
