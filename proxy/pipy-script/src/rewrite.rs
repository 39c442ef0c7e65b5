//! Rewrites a script so that a stock engine runs it: variables of a context become slots, the rest stays as it is.
//!
//! In: the source of one file. Out: an ES module, line for line the same, and what is needed to speak of the original.
//!
//! Scripts use free identifiers for variables that belong to the current *context* (one per connection, cloned per
//! request): those named in `pipy({…})`, `.export(…, {…})` and `.import({…})`, and, in the newer style, top-level variables that
//! begin with `$`. Every reference to one becomes `__pipy.c[slot]`, where `c` is the array of the current context's values.
//! What a file calls and no one declares where it can be seen becomes `__m<id>.name`, resolved when all files are loaded.
//!
//! Also here: the value of a script (its last expression) is kept, `return` outside of functions is allowed, an `await`
//! finds its context again.
//!
//! INVARIANT: no line is added or removed; columns are found again through [`Rewritten::original`].

use std::collections::{BTreeMap, BTreeSet};

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    AssignmentTargetPropertyIdentifier, AwaitExpression, CallExpression, Expression, FormalParameters,
    IdentifierReference, ObjectProperty, Program, Statement, StaticMemberExpression, UnaryExpression,
    UnaryOperator, VariableDeclarator,
};
use oxc_ast_visit::{Visit, walk};
use oxc_parser::{ParseOptions, Parser};
use oxc_semantic::{Scoping, SemanticBuilder};
use oxc_span::{GetSpan, SourceType, Span};

mod declarations;
mod dialect;

/// Where in a file: line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

impl Place {
    /// The place of a byte of a text.
    pub(crate) fn of(text: &str, offset: usize) -> Self {
        place_of(text, &line_starts(text), offset)
    }
}

/// A script that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// What is wrong.
    pub(crate) message: String,
    /// Where.
    pub(crate) place: Place,
}

/// Gives out the slots of variables. The same name of the same owner has the same slot.
pub(crate) trait Slots {
    /// A variable of this file alone.
    fn private(&mut self, name: &str) -> u32;
    /// A variable that files share under a namespace.
    fn shared(&mut self, namespace: &str, name: &str) -> u32;
    /// Whether a name is known to every script.
    fn is_global(&self, name: &str) -> bool;
}

/// What became of a file.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    /// The module to run.
    pub code: String,
    /// Names that are not declared where it can be seen, each with its first place.
    pub unresolved: BTreeMap<String, Place>,
    /// The slots of variables that are.
    pub variables: BTreeMap<String, u32>,
    /// What the file declares for others: namespace, name, place.
    pub exports: Vec<(String, String, Place)>,
    /// What it takes from others.
    pub imports: Vec<(String, String, Place)>,
    edits: Vec<Edit>,
    source_lines: Vec<usize>,
    code_lines: Vec<usize>,
}

/// Text put in place of a part of the source.
#[derive(Debug, Clone)]
struct Edit {
    at: usize,
    removed: usize,
    text: String,
    /// Among edits at the same place: what closes comes before what opens, inner before outer.
    rank: i32,
}

impl Rewritten {
    /// Where a place of the code was in the source.
    pub(crate) fn original(&self, place: Place) -> Place {
        let line = place.line.saturating_sub(1) as usize;
        let Some(start) = self.code_lines.get(line) else { return place };
        let mut offset = start + place.column.saturating_sub(1) as usize;
        let mut added = 0isize;
        for edit in &self.edits {
            let at = edit.at.checked_add_signed(added).unwrap_or(0);
            if at + edit.text.len() > offset {
                // Within what was put in: its beginning is as near as the source knows.
                offset = offset.min(at);
                break;
            }
            added += edit.text.len() as isize - edit.removed as isize;
        }
        let offset = offset.checked_add_signed(-added).unwrap_or(0);
        let start = self.source_lines.get(line).copied().unwrap_or(0);
        Place { line: place.line, column: u32::try_from(offset.saturating_sub(start)).unwrap_or(0) + 1 }
    }
}

/// Rewrites a file. `module` is its number, `filename` what `__filename` says.
///
/// # Errors
/// When it is not JavaScript.
pub(crate) fn rewrite(
    source: &str,
    module: usize,
    filename: &str,
    slots: &mut dyn Slots,
) -> Result<Rewritten, SyntaxError> {
    let options = ParseOptions { allow_return_outside_function: true, ..ParseOptions::default() };
    let source = &*dialect::relaxed(source, options);
    let source_lines = line_starts(source);
    let place = |offset: u32| place_of(source, &source_lines, offset as usize);
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, SourceType::mjs()).with_options(options).parse();
    if let Some(diagnostic) = parsed.diagnostics.first() {
        let offset = diagnostic.labels.iter().next().map_or(0, |label| label.offset());
        let message = diagnostic.message.to_string();
        return Err(SyntaxError { message, place: place(offset) });
    }
    let semantic = SemanticBuilder::new().build(&parsed.program).semantic;
    let mut visitor = Visitor {
        module,
        filename,
        scoping: semantic.scoping(),
        slots,
        declared: BTreeMap::new(),
        shorthands: BTreeSet::new(),
        callees: BTreeSet::new(),
        asked: BTreeSet::new(),
        named: Vec::new(),
        configurations: 0,
        older: dialect::is_older(&parsed.program),
        edits: Vec::new(),
        unresolved: BTreeMap::new(),
    };
    declarations::Declarations { visitor: &mut visitor }.visit_program(&parsed.program);
    visitor.fibers(&parsed.program);
    if let Some((message, offset)) = visitor.refused(&parsed.program) {
        return Err(SyntaxError { message, place: place(offset) });
    }
    visitor.visit_program(&parsed.program);
    visitor.frame(&parsed.program);
    let Visitor { declared, mut edits, unresolved, named, .. } = visitor;
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    for declarations::Named { name, at, shared } in named {
        match shared {
            Some((namespace, true)) => exports.push((namespace, name, place(at))),
            Some((namespace, false)) => imports.push((namespace, name, place(at))),
            None => {}
        }
    }
    edits.sort_by_key(|edit| (edit.at, edit.rank));
    let code = apply(source, &edits);
    let unresolved = unresolved.into_iter().map(|(name, at)| (name, place(at))).collect();
    let code_lines = line_starts(&code);
    let variables = declared;
    Ok(Rewritten { code, unresolved, variables, exports, imports, edits, source_lines, code_lines })
}

fn apply(source: &str, edits: &[Edit]) -> String {
    let mut code = String::with_capacity(source.len() + edits.len() * 16);
    let mut from = 0;
    for edit in edits {
        code.push_str(source.get(from..edit.at).unwrap_or_default());
        code.push_str(&edit.text);
        from = edit.at + edit.removed;
    }
    code.push_str(source.get(from..).unwrap_or_default());
    code
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect()
}

fn place_of(source: &str, lines: &[usize], offset: usize) -> Place {
    let line = lines.partition_point(|start| *start <= offset).max(1);
    let start = lines.get(line - 1).copied().unwrap_or(0);
    let column = source.get(start..offset).map_or(0, |text| text.chars().count());
    Place { line: u32::try_from(line).unwrap_or(0), column: u32::try_from(column).unwrap_or(0) + 1 }
}

struct Visitor<'s> {
    module: usize,
    filename: &'s str,
    scoping: &'s Scoping,
    slots: &'s mut dyn Slots,
    declared: BTreeMap<String, u32>,
    /// References that are written `{ x }` for `{ x: x }`.
    shorthands: BTreeSet<u32>,
    /// References that are called: `x()`.
    callees: BTreeSet<u32>,
    /// References that are only asked about: `typeof x`.
    asked: BTreeSet<u32>,
    /// Whether the file is in the language of older scripts.
    older: bool,
    /// The names that it declares in calls, in their order.
    named: Vec<declarations::Named>,
    /// How many configurations it makes.
    configurations: usize,
    edits: Vec<Edit>,
    unresolved: BTreeMap<String, u32>,
}

impl Visitor<'_> {
    fn insert(&mut self, at: u32, rank: i32, text: impl Into<String>) {
        self.edits.push(Edit { at: at as usize, removed: 0, text: text.into(), rank });
    }

    /// The newer style: `var $x` at the top of a file belongs to the context.
    fn fibers(&mut self, program: &Program<'_>) {
        let scoping = self.scoping;
        let mut fibers: Vec<_> = scoping
            .get_bindings(scoping.root_scope_id())
            .iter()
            .filter(|(name, symbol)| {
                name.starts_with('$') && name.len() > 1 && !scoping.symbol_flags(**symbol).is_import()
            })
            .map(|(name, symbol)| (scoping.symbol_span(*symbol).start, name.to_string()))
            .collect();
        fibers.sort_unstable();
        for (_, name) in fibers {
            let slot = self.slots.private(&name);
            self.declared.insert(name, slot);
        }
        for statement in &program.body {
            if let Statement::VariableDeclaration(declaration) = statement {
                for declarator in &declaration.declarations {
                    self.fiber(declarator);
                }
            }
        }
    }

    /// `var $x = 1` sets the value that contexts begin with.
    fn fiber(&mut self, declarator: &VariableDeclarator<'_>) {
        let Some(name) = declarator.id.get_identifier_name() else { return };
        let Some(slot) = self.declared.get(name.as_str()).copied() else { return };
        let at = declarator.id.span().end;
        match &declarator.init {
            Some(_) => self.insert(at, 0, format!(" = __pipy.c[{slot}]")),
            None => self.insert(at, 0, format!(" = __pipy.c[{slot}] = undefined")),
        }
    }

    /// What is put in place of a reference, if anything.
    fn replacement(&mut self, reference: &IdentifierReference<'_>) -> Option<String> {
        let name = reference.name.as_str();
        let id = reference.reference_id.get()?;
        if let Some(symbol) = self.scoping.get_reference(id).symbol_id() {
            let top = self.scoping.symbol_scope_id(symbol) == self.scoping.root_scope_id();
            let fiber = top && name.starts_with('$') && !self.scoping.symbol_flags(symbol).is_import();
            let slot = self.declared.get(name).filter(|_| fiber)?;
            return Some(format!("__pipy.c[{slot}]"));
        }
        match name {
            "__filename" => return Some(format!("{:?}", self.filename)),
            "__inbound" => return Some("__pipy.c[0]".into()),
            "pipy" => return Some(format!("__m{}.pipy", self.module)),
            "pipeline" => return Some(format!("__m{}.pipeline", self.module)),
            "undefined" | "arguments" => return None,
            _ => {}
        }
        if let Some(slot) = self.declared.get(name) {
            return Some(format!("__pipy.c[{slot}]"));
        }
        if self.older && matches!(name, "Map" | "Error") {
            return Some(format!("__pipy.{name}"));
        }
        if self.slots.is_global(name) {
            return None;
        }
        if self.asked.contains(&reference.span.start) {
            return Some(format!("globalThis.{name}"));
        }
        self.unresolved.entry(name.to_string()).or_insert(reference.span.start);
        Some(format!("__m{}.{name}", self.module))
    }

    /// Keeps the value of the script, and lets `return` end it.
    fn frame(&mut self, program: &Program<'_>) {
        let result = format!("__m{}.result", self.module);
        let returns = program.body.iter().any(|statement| has_return(statement));
        if let Some(Statement::ExpressionStatement(last)) = program.body.last()
            && !returns
        {
            let span = last.expression.span();
            self.insert(span.start, -100, format!("{result} = ("));
            self.insert(span.end, 100, ")");
        }
        // A text alone is a directive to the parser.
        if let (true, Some(text)) = (program.body.is_empty(), program.directives.last()) {
            self.insert(text.expression.span.start, -100, format!("{result} = "));
        }
        if !returns {
            return;
        }
        let first =
            program.body.iter().find(|statement| !matches!(statement, Statement::ImportDeclaration(_)));
        if let (Some(first), Some(last)) = (first, program.body.last()) {
            self.insert(first.span().start, -200, format!("{result} = (() => {{"));
            self.insert(last.span().end, 200, "\n})();");
        }
    }
}

fn has_return(statement: &Statement<'_>) -> bool {
    struct Finder(bool);
    impl<'a> Visit<'a> for Finder {
        fn visit_function(&mut self, _: &oxc_ast::ast::Function<'a>, _: oxc_semantic::ScopeFlags) {}
        fn visit_arrow_function_expression(&mut self, _: &oxc_ast::ast::ArrowFunctionExpression<'a>) {}
        fn visit_return_statement(&mut self, _: &oxc_ast::ast::ReturnStatement<'a>) {
            self.0 = true;
        }
    }
    let mut finder = Finder(false);
    finder.visit_statement(statement);
    finder.0
}

impl<'a> Visit<'a> for Visitor<'_> {
    fn visit_identifier_reference(&mut self, reference: &IdentifierReference<'a>) {
        let Some(mut text) = self.replacement(reference) else { return };
        let Span { start, end, .. } = reference.span;
        if self.shorthands.contains(&start) {
            text = format!("{}: {text}", reference.name);
        } else if self.callees.contains(&start) && !text.ends_with(".pipy") && !text.ends_with(".pipeline") {
            // Called as a method it would be told an object that the script does not know of.
            text = format!("(0,{text})");
        }
        let removed = (end - start) as usize;
        self.edits.push(Edit { at: start as usize, removed, text, rank: 0 });
    }

    fn visit_object_property(&mut self, property: &ObjectProperty<'a>) {
        if property.shorthand {
            self.shorthands.insert(property.value.span().start);
        }
        walk::walk_object_property(self, property);
    }

    fn visit_assignment_target_property_identifier(
        &mut self,
        property: &AssignmentTargetPropertyIdentifier<'a>,
    ) {
        self.shorthands.insert(property.binding.span.start);
        walk::walk_assignment_target_property_identifier(self, property);
    }

    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        if let Expression::Identifier(callee) = &call.callee {
            self.callees.insert(callee.span.start);
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_unary_expression(&mut self, expression: &UnaryExpression<'a>) {
        if let (UnaryOperator::Typeof, Expression::Identifier(name)) =
            (expression.operator, &expression.argument)
        {
            self.asked.insert(name.span.start);
        }
        walk::walk_unary_expression(self, expression);
    }

    fn visit_static_member_expression(&mut self, member: &StaticMemberExpression<'a>) {
        let number = |name: &IdentifierReference<'a>| {
            let id = name.reference_id.get();
            name.name == "Number" && id.is_none_or(|id| self.scoping.get_reference(id).symbol_id().is_none())
        };
        if let Expression::Identifier(object) = &member.object
            && self.older
            && member.property.name == "parseInt"
            && number(object)
        {
            let at = object.span.start as usize;
            let removed = object.span.size() as usize;
            self.edits.push(Edit { at, removed, text: "__pipy.Number".into(), rank: 0 });
            return;
        }
        walk::walk_static_member_expression(self, member);
    }

    fn visit_formal_parameters(&mut self, parameters: &FormalParameters<'a>) {
        for Span { start, end, .. } in dialect::hidden(parameters) {
            let text = format!("__hidden{start}");
            self.edits.push(Edit { at: start as usize, removed: (end - start) as usize, text, rank: 0 });
        }
        walk::walk_formal_parameters(self, parameters);
    }

    fn visit_await_expression(&mut self, expression: &AwaitExpression<'a>) {
        self.insert(expression.span.start, -1, "__pipy.r(__pipy.c, ");
        self.insert(expression.span.end, 1, ")");
        walk::walk_await_expression(self, expression);
    }
}

#[cfg(test)]
mod tests;
