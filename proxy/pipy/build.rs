//! Has the linker show the symbols of `pipy-nmi` to native modules, which look for them in the program.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for symbols in ["pjs_*", "pipy_*"] {
        println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol={symbols}");
    }
}
