//! What the language of older scripts allows and means that JavaScript does not.
//!
//! Three things parse there alone: `return` at the top of a file (an option of the parser), a plain member of an optional
//! chain on the left of an assignment, and parameters that have one name. Three things mean something else there:
//! `Map`, `Error` and `Number.parseInt`; they do so in files that such an engine would have taken, [`is_older`], and nowhere else.
//!
//! INVARIANT: a source that is made acceptable keeps its length, so that every place in it stays where it was.

use std::borrow::Cow;
use std::collections::HashMap;

use oxc_ast::ast::{
    Argument, AwaitExpression, BigIntLiteral, BindingIdentifier, CallExpression, Class, ContinueStatement,
    DoWhileStatement, ForInStatement, ForOfStatement, FormalParameterRest, FormalParameters, Function,
    ObjectProperty, Program, PropertyKind, RegExpLiteral, ThisExpression, VariableDeclaration,
    VariableDeclarationKind, WhileStatement, YieldExpression,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::ScopeFlags;
use oxc_span::{SourceType, Span};

/// Makes a source acceptable to a stock parser: `a?.b.c = 1` becomes `a .b.c = 1`.
pub(super) fn relaxed(source: &str, options: ParseOptions) -> Cow<'_, str> {
    // LIMIT: each round mends what the parser has found so far; it finds all of them unless one hides another.
    const ROUNDS: usize = 8;
    let mut text = Cow::Borrowed(source);
    for _ in 0..ROUNDS {
        let allocator = oxc_allocator::Allocator::default();
        let parsed = Parser::new(&allocator, &text, SourceType::mjs()).with_options(options).parse();
        let found: Vec<(usize, usize)> = parsed
            .diagnostics
            .iter()
            .filter(|found| found.message == "Cannot assign to this expression")
            .filter_map(|found| {
                let label = found.labels.iter().next()?;
                Some((label.offset() as usize, (label.offset() + label.len()) as usize))
            })
            .collect();
        let mut mended = text.clone().into_owned();
        for (from, to) in found {
            if let Some(part) = text.get(from..to) {
                mended.replace_range(from..to, &plain(part));
            }
        }
        if mended == *text {
            return text;
        }
        text = Cow::Owned(mended);
    }
    text
}

/// The same chain without a question in it.
fn plain(chain: &str) -> String {
    let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let mut out = String::with_capacity(chain.len());
    let mut rest = chain;
    while let Some((before, after)) = rest.split_once("?.") {
        out.push_str(before);
        out.push_str(match after.chars().next() {
            Some('[' | '(') => "  ",
            _ if digit(after) => "?.",
            _ => " .",
        });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether a file has nothing that only newer engines take.
pub(super) fn is_older(program: &Program<'_>) -> bool {
    let mut newer = Newer(false);
    newer.visit_program(program);
    !newer.0
}

struct Newer(bool);

impl<'a> Visit<'a> for Newer {
    fn visit_variable_declaration(&mut self, it: &VariableDeclaration<'a>) {
        self.0 |= it.kind != VariableDeclarationKind::Var;
        walk::walk_variable_declaration(self, it);
    }
    fn visit_function(&mut self, it: &Function<'a>, flags: ScopeFlags) {
        self.0 |= it.r#async || it.generator;
        walk::walk_function(self, it, flags);
    }
    fn visit_arrow_function_expression(&mut self, it: &oxc_ast::ast::ArrowFunctionExpression<'a>) {
        self.0 |= it.r#async;
        walk::walk_arrow_function_expression(self, it);
    }
    fn visit_object_property(&mut self, it: &ObjectProperty<'a>) {
        self.0 |= it.method || it.kind != PropertyKind::Init;
        walk::walk_object_property(self, it);
    }
    fn visit_call_expression(&mut self, it: &CallExpression<'a>) {
        self.0 |= it.arguments.iter().any(|argument| matches!(argument, Argument::SpreadElement(_)));
        walk::walk_call_expression(self, it);
    }
    fn visit_formal_parameter_rest(&mut self, _: &FormalParameterRest<'a>) {
        self.0 = true;
    }
    fn visit_this_expression(&mut self, _: &ThisExpression) {
        self.0 = true;
    }
    fn visit_class(&mut self, _: &Class<'a>) {
        self.0 = true;
    }
    fn visit_while_statement(&mut self, _: &WhileStatement<'a>) {
        self.0 = true;
    }
    fn visit_do_while_statement(&mut self, _: &DoWhileStatement<'a>) {
        self.0 = true;
    }
    fn visit_for_in_statement(&mut self, _: &ForInStatement<'a>) {
        self.0 = true;
    }
    fn visit_for_of_statement(&mut self, _: &ForOfStatement<'a>) {
        self.0 = true;
    }
    fn visit_continue_statement(&mut self, _: &ContinueStatement<'a>) {
        self.0 = true;
    }
    fn visit_yield_expression(&mut self, _: &YieldExpression<'a>) {
        self.0 = true;
    }
    fn visit_await_expression(&mut self, _: &AwaitExpression<'a>) {
        self.0 = true;
    }
    fn visit_reg_exp_literal(&mut self, _: &RegExpLiteral<'a>) {
        self.0 = true;
    }
    fn visit_big_int_literal(&mut self, _: &BigIntLiteral<'a>) {
        self.0 = true;
    }
}

/// The parameters of a function that a later one of the same name hides.
pub(super) fn hidden(parameters: &FormalParameters<'_>) -> Vec<Span> {
    struct Names(Vec<(String, Span)>);
    impl<'a> Visit<'a> for Names {
        fn visit_binding_identifier(&mut self, it: &BindingIdentifier<'a>) {
            self.0.push((it.name.to_string(), it.span));
        }
        // What a default value declares is its own.
        fn visit_expression(&mut self, _: &oxc_ast::ast::Expression<'a>) {}
        // `{ a }` is property and name at once: those are left to the engine to refuse.
        fn visit_binding_property(&mut self, it: &oxc_ast::ast::BindingProperty<'a>) {
            if !it.shorthand {
                walk::walk_binding_property(self, it);
            }
        }
    }
    let mut names = Names(Vec::new());
    names.visit_formal_parameters(parameters);
    let mut last: HashMap<&str, Span> = HashMap::new();
    for (name, span) in &names.0 {
        last.insert(name, *span);
    }
    let mut hidden = Vec::new();
    for (name, span) in &names.0 {
        if last.get(name.as_str()) != Some(span) {
            hidden.push(*span);
        }
    }
    hidden
}
