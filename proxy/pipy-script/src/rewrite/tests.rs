//! What becomes of sources, and where errors in them are said to be.

use super::*;

#[derive(Default)]
struct Numbers(Vec<String>);

impl Slots for Numbers {
    fn private(&mut self, name: &str) -> u32 {
        self.shared("", name)
    }
    fn shared(&mut self, namespace: &str, name: &str) -> u32 {
        let key = format!("{namespace}.{name}");
        let at = self.0.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.0.push(key);
            self.0.len() - 1
        });
        u32::try_from(at).unwrap() + 1
    }
    fn is_global(&self, name: &str) -> bool {
        ["Object", "console", "Message"].contains(&name)
    }
}

fn code(source: &str) -> String {
    rewrite(source, 3, "/main.js", &mut Numbers::default()).unwrap().code
}

#[test]
fn declared_variables_become_slots_wherever_they_are_used() {
    assert_eq!(
        code("pipy({ _a: 1, _b: 2 }).listen(80).handleData(d => (_a = d, _b++))"),
        "__m3.result = (__m3.pipy({ _a: 1, _b: 2 }).listen(80).handleData(d => (__pipy.c[1] = d, __pipy.c[2]++)))"
    );
}

#[test]
fn a_local_name_is_no_context_variable() {
    assert_eq!(
        code("pipy({ _a: 1 }).onStart(_a => _a)"),
        "__m3.result = (__m3.pipy({ _a: 1 }).onStart(_a => _a))"
    );
}

#[test]
fn shorthand_and_destructuring_keep_their_meaning() {
    assert_eq!(
        code("pipy({ _a: 1 }).onStart(() => ({ _a, ..._a }, ({ _a } = x()), [_a] = [1]))"),
        "__m3.result = (__m3.pipy({ _a: 1 }).onStart(() => ({ _a: __pipy.c[1], ...__pipy.c[1] }, ({ _a: __pipy.c[1] } = (0,__m3.x)()), [__pipy.c[1]] = [1])))"
    );
}

#[test]
fn imported_and_exported_variables_share_slots() {
    let mut slots = Numbers::default();
    let first = rewrite("pipy().export('main', { __route: null })", 1, "/a.js", &mut slots).unwrap();
    let second = rewrite("pipy().import({ __route: 'main' })", 2, "/b.js", &mut slots).unwrap();
    assert_eq!(first.variables, second.variables);
}

#[test]
fn names_that_no_one_declares_are_told() {
    let rewritten =
        rewrite("pipy()\n  .onStart(() => console.log(_typo))", 1, "/a.js", &mut Numbers::default()).unwrap();
    assert_eq!(rewritten.unresolved.get("_typo"), Some(&Place { line: 2, column: 30 }));
}

#[test]
fn fiber_variables_of_the_newer_style() {
    assert_eq!(
        code("var $a, $b = 2, c = 3\nexport default () => $a = $b + c"),
        "var $a = __pipy.c[1] = undefined, $b = __pipy.c[2] = 2, c = 3\nexport default () => __pipy.c[1] = __pipy.c[2] + c"
    );
}

#[test]
fn return_outside_of_functions_and_await_are_understood() {
    assert_eq!(code("if (1) return 2\n3"), "__m3.result = (() => {if (1) return 2\n3\n})();");
    assert_eq!(code("async () => await 1"), "__m3.result = (async () => __pipy.r(__pipy.c, await 1))");
}

#[test]
fn a_place_in_the_code_is_found_in_the_source() {
    let source = "pipy({ _a: 1 })\n.onStart(() => (_a, _a, boom()))";
    let rewritten = rewrite(source, 3, "/main.js", &mut Numbers::default()).unwrap();
    let column = rewritten.code.lines().nth(1).unwrap().find("boom").unwrap() + 1;
    let place = Place { line: 2, column: u32::try_from(column).unwrap() };
    assert_eq!(rewritten.original(place), Place { line: 2, column: 25 });
}

#[test]
fn a_syntax_error_says_where() {
    let error = rewrite("pipy()\n  .listen(", 1, "/a.js", &mut Numbers::default()).unwrap_err();
    assert_eq!(error.place.line, 2);
}
