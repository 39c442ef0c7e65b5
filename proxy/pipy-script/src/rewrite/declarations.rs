//! The variables that a file declares in calls: `pipy({…})`, `.export('ns', {…})`, `.import({…})`; and what cannot be.
//!
//! In: a parsed file. Out: the slot of each name, and the names in their order. INVARIANT: a configuration has each name once, and
//! what belongs to a context is not exported as if it belonged to the file.

use std::collections::BTreeSet;

use oxc_ast::ast::{
    Argument, CallExpression, Declaration, Expression, ObjectExpression, ObjectPropertyKind, Program,
    PropertyKey, Statement,
};
use oxc_ast_visit::{Visit, walk};

use super::Visitor;

/// A variable that a call declares.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) at: u32,
    /// The namespace, for those that files share; whether it is declared for others or taken from them.
    pub(super) shared: Option<(String, bool)>,
}

impl Visitor<'_> {
    /// A name that cannot be what it is declared to be, and why.
    pub(super) fn refused(&self, program: &Program<'_>) -> Option<(String, u32)> {
        let mut seen = BTreeSet::new();
        for named in &self.named {
            // Each configuration has variables of its own.
            if !seen.insert(&named.name) && self.configurations < 2 {
                return Some((format!("duplicated variable {}", named.name), named.at));
            }
        }
        let fiber = |name: &str| name.starts_with('$') && self.declared.contains_key(name);
        for statement in &program.body {
            let names: Vec<(String, u32)> = match statement {
                Statement::ExportNamedDeclaration(exported) => exported
                    .specifiers
                    .iter()
                    .map(|one| (one.local.name().to_string(), one.span.start))
                    .collect(),
                Statement::ExportDeclaration(exported) => match &exported.declaration {
                    Declaration::VariableDeclaration(variables) => variables
                        .declarations
                        .iter()
                        .filter_map(|one| Some((one.id.get_identifier_name()?.to_string(), one.span.start)))
                        .collect(),
                    _ => continue,
                },
                _ => continue,
            };
            if let Some((name, at)) = names.into_iter().find(|(name, _)| fiber(name)) {
                return Some((format!("fiber variable {name} cannot be exported"), at));
            }
        }
        None
    }
}

/// Finds the variables that a file declares in calls: `pipy({…})`, `.export('ns', {…})`, `.import({…})`.
pub(super) struct Declarations<'v, 's> {
    pub(super) visitor: &'v mut Visitor<'s>,
}

impl<'a> Visit<'a> for Declarations<'_, '_> {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        match &call.callee {
            Expression::Identifier(callee) if callee.name == "pipy" => {
                self.visitor.configurations += 1;
                for (name, at, _) in call.arguments.first().and_then(object_of).map(keys).unwrap_or_default()
                {
                    let slot = self.visitor.slots.private(&name);
                    self.visitor.declared.insert(name.clone(), slot);
                    self.visitor.named.push(Named { name, at, shared: None });
                }
            }
            Expression::StaticMemberExpression(callee) if callee.property.name == "export" => {
                if let [Argument::StringLiteral(namespace), variables] = call.arguments.as_slice() {
                    for (name, at, _) in object_of(variables).map(keys).unwrap_or_default() {
                        let slot = self.visitor.slots.shared(&namespace.value, &name);
                        self.visitor.declared.insert(name.clone(), slot);
                        let shared = Some((namespace.value.to_string(), true));
                        self.visitor.named.push(Named { name, at, shared });
                    }
                }
            }
            Expression::StaticMemberExpression(callee) if callee.property.name == "import" => {
                let names = call.arguments.first().and_then(object_of).map(keys).unwrap_or_default();
                for (name, at, namespace) in names {
                    if let Some(namespace) = namespace {
                        let slot = self.visitor.slots.shared(&namespace, &name);
                        self.visitor.declared.insert(name.clone(), slot);
                        self.visitor.named.push(Named { name, at, shared: Some((namespace, false)) });
                    }
                }
            }
            _ => {}
        }
        walk::walk_call_expression(self, call);
    }
}

/// The object that an argument is, or that a function given as argument makes.
fn object_of<'b, 'a>(argument: &'b Argument<'a>) -> Option<&'b ObjectExpression<'a>> {
    fn inner<'b, 'a>(expression: &'b Expression<'a>) -> Option<&'b ObjectExpression<'a>> {
        match expression {
            Expression::ObjectExpression(object) => Some(object),
            Expression::ParenthesizedExpression(inside) => inner(&inside.expression),
            Expression::SequenceExpression(sequence) => sequence.expressions.last().and_then(inner),
            Expression::ArrowFunctionExpression(function) => function.body.as_expression().and_then(inner),
            _ => None,
        }
    }
    argument.as_expression().and_then(inner)
}

/// The names of an object's properties and where they are, with the string that is the value, if it is one.
fn keys(object: &ObjectExpression<'_>) -> Vec<(String, u32, Option<String>)> {
    let mut found = Vec::new();
    for property in &object.properties {
        let ObjectPropertyKind::ObjectProperty(property) = property else { continue };
        let name = match &property.key {
            PropertyKey::StaticIdentifier(name) => name.name.to_string(),
            PropertyKey::StringLiteral(name) => name.value.to_string(),
            _ => continue,
        };
        let value = match &property.value {
            Expression::StringLiteral(value) => Some(value.value.to_string()),
            _ => None,
        };
        found.push((name, property.span.start, value));
    }
    found
}
