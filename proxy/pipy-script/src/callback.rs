//! What a script gives to a filter to be called, or to be taken as it is.
//!
//! In: a value of a script. Out: the same, with what can be known of it before the first event. INVARIANT: a function that cannot
//! see its arguments is the only one that is called without them.

use rquickjs::{Coerced, Ctx, Persistent, Result, Value};

use crate::engine::Kept;
use crate::raw;

/// A function or a value that stands for what it would return.
pub(crate) struct Given {
    value: Kept,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Value,
    Function,
    /// An arrow function without parameters: it has no `arguments` either, so that none need to be made.
    Blind,
}

impl Given {
    pub(crate) fn new<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> Self {
        let kind = match value.is_function() {
            false => Kind::Value,
            true if is_blind(&value) => Kind::Blind,
            true => Kind::Function,
        };
        Given { value: Persistent::save(ctx, value), kind }
    }

    /// The value itself.
    pub(crate) fn value<'js>(&self, ctx: &Ctx<'js>) -> Result<Value<'js>> {
        self.value.clone().restore(ctx)
    }

    /// Whether it is called.
    pub(crate) fn is_function(&self) -> bool {
        self.kind != Kind::Value
    }

    /// Whether it sees what it is called with.
    pub(crate) fn sees_arguments(&self) -> bool {
        self.kind == Kind::Function
    }

    /// What it returns, or is.
    pub(crate) fn call<'js>(&self, ctx: &Ctx<'js>, arguments: &[&Value<'js>]) -> Result<Value<'js>> {
        let value = self.value(ctx)?;
        match self.kind {
            Kind::Value => Ok(value),
            Kind::Function | Kind::Blind => raw::call(ctx, &value, arguments),
        }
    }
}

/// Whether the text of a function says that it takes nothing. Comments and line breaks at odd places make it say less than it could.
fn is_blind(function: &Value<'_>) -> bool {
    let Ok(text) = function.get::<Coerced<String>>() else {
        // A `toString` of the script's own may throw, which is nothing to fail for.
        drop(function.ctx().catch());
        return false;
    };
    let text = text.0.trim_start();
    let text = text.strip_prefix("async").map_or(text, str::trim_start);
    let parameters = text.strip_prefix('(').and_then(|rest| rest.trim_start().strip_prefix(')'));
    parameters.is_some_and(|rest| rest.trim_start().starts_with("=>"))
}

#[cfg(test)]
mod tests {
    use super::Given;
    use crate::files::Inline;
    use crate::{Limits, load};
    use rquickjs::Value;
    use std::rc::Rc;

    #[test]
    fn only_functions_that_cannot_see_their_arguments_are_called_without() {
        let loaded = load(Rc::new(Inline("pipy()".into())), "/main.js", Limits::default()).unwrap();
        for (script, sees) in [
            ("() => 1", false),
            ("( ) => { return 1 }", false),
            ("async () => 1", false),
            ("x => x", true),
            ("(x) => x", true),
            ("(...all) => all", true),
            ("(x = 1) => x", true),
            ("(/* none */) => 1", true),
            ("(function () { return arguments[0] })", true),
            ("(0, function f() { return arguments[0] })", true),
            ("({ f() { return arguments[0] } }).f", true),
            ("(() => x => x)()", true),
            ("(() => 1).bind(null)", true),
            ("class A { static f = () => 1 }; A.f", false),
        ] {
            let found = loaded.script.engine.with(|ctx| {
                let given = Given::new(ctx, ctx.eval::<Value<'_>, _>(script)?);
                assert!(given.is_function(), "{script}");
                Ok(given.sees_arguments())
            });
            assert_eq!(found.unwrap(), sees, "{script}");
        }
    }
}
