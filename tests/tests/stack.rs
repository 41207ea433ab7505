//! The top-level modules of the library depend only downwards, as `docs/architecture.md` draws them.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Sources by path, relative to the folder of the crate's root.
type Sources = BTreeMap<PathBuf, String>;

/// Each module with those that it names, and a file that does so.
type Arrows = BTreeMap<String, BTreeMap<String, PathBuf>>;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn sources() -> Sources {
    fn collect(root: &Path, folder: &Path, sources: &mut Sources) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, sources);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let relative = path.strip_prefix(root).unwrap().to_owned();
                sources.insert(relative, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let (root, mut sources) = (Path::new(WORKSPACE).join("hypernn/src"), Sources::new());
    collect(&root, &root, &mut sources);
    sources
}

/// The text without comments.
fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// The length of the item at the start of a text: to its semicolon, or to the end of its braces.
fn item_len(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The code that is not for tests alone, and the names of the modules that are.
fn split_tests(text: &str) -> (String, Vec<String>) {
    let (mut code, mut tests, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        code.push_str(before);
        let item = &after[..item_len(after)];
        if let Some((_, name)) = item.split_once("mod ") {
            tests.push(word(name).to_owned());
        }
        rest = &after[item.len()..];
    }
    code.push_str(rest);
    (code, tests)
}

/// The word at the start of a text.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    &text[..end.unwrap_or(text.len())]
}

/// The names that follow a path: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn first_names(text: &str) -> Vec<String> {
    let Some(list) = text.strip_prefix('{') else { return vec![word(text).to_owned()] };
    let (mut names, mut depth, mut starts) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts = true,
            c if starts && !c.is_whitespace() => {
                names.push(word(&list[at..]).to_owned());
                starts = false;
            }
            _ => {}
        }
    }
    names
}

/// The names at the crate's root that a file of so many modules deep names, by `crate::` or by `super::`.
fn names_of(code: &str, depth: usize) -> Vec<String> {
    let (mut names, mut inline, mut braces, mut at) = (Vec::new(), Vec::new(), 0, 0);
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let is_start = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if c == '{' {
            braces += 1;
        } else if c == '}' {
            braces -= 1;
            inline.retain(|opened| *opened <= braces);
        } else if is_start && rest.starts_with("crate::") {
            names.extend(first_names(&rest["crate::".len()..]));
        } else if is_start && rest.starts_with("super::") {
            let ups = rest.split("super::").take_while(|part| part.is_empty()).count();
            let after = &rest[ups * "super::".len()..];
            if ups == depth + inline.len() {
                names.extend(first_names(after));
            }
            at += (ups - 1) * "super::".len();
        } else if is_start && rest.starts_with("mod ") {
            let after =
                rest["mod ".len()..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            if after.trim_start().starts_with('{') {
                inline.push(braces + 1);
            }
        }
        at += c.len_utf8();
    }
    names
}

/// The path of a file's module: `nn::linear` of `nn/linear.rs`.
fn module_of(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let parts = path.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// The modules that the crate's root re-exports names from, by name.
fn exported(root: &str, modules: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for statement in root.split("pub use ").skip(1) {
        let path = &statement[..statement.find(';').unwrap_or(statement.len())];
        let module = word(path.trim_start_matches("crate::")).to_owned();
        if modules.contains(&module) {
            let names = path.split(|c: char| !(c.is_alphanumeric() || c == '_'));
            exported.extend(names.map(|name| (name.to_owned(), module.clone())));
        }
    }
    exported
}

/// Which top-level module names which.
fn arrows(sources: &Sources) -> Arrows {
    let mut texts = BTreeMap::new();
    let mut tests = BTreeSet::new();
    for (path, text) in sources {
        let (code, of_tests) = split_tests(&without_comments(text));
        let module = module_of(path);
        let of_tests = of_tests.into_iter().map(|name| [&module[..], &[name]].concat());
        tests.extend(of_tests);
        texts.insert(path.clone(), (module, code));
    }
    texts.retain(|_, (module, _)| !(1..=module.len()).any(|len| tests.contains(&module[..len])));
    let root = texts.remove(Path::new("lib.rs")).map_or_else(String::new, |(_, code)| code);
    let mut arrows = Arrows::new();
    for (module, _) in texts.values() {
        arrows.entry(module[0].clone()).or_default();
    }
    // A module that is written in the root.
    for (at, _) in root.match_indices("mod ") {
        let item = &root[at..][..item_len(&root[at..])];
        if item.ends_with('}') {
            let module = vec![word(&item["mod ".len()..]).to_owned()];
            arrows.entry(module[0].clone()).or_default();
            texts
                .insert(PathBuf::from(format!("lib.rs, {}", module[0])), (module, item.to_owned()));
        }
    }
    let modules = arrows.keys().cloned().collect();
    let exported = exported(&root, &modules);
    for (path, (module, code)) in texts {
        for name in names_of(&code, module.len()) {
            let named = if modules.contains(&name) { Some(&name) } else { exported.get(&name) };
            if let Some(named) = named.filter(|named| **named != module[0]) {
                let of_module = arrows.entry(module[0].clone()).or_default();
                of_module.entry(named.clone()).or_insert_with(|| path.clone());
            }
        }
    }
    arrows
}

/// A circle among the modules, with the file that holds each arrow.
fn circle(arrows: &Arrows) -> Option<String> {
    fn visit<'a>(
        arrows: &'a Arrows,
        module: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        if let Some(start) = path.iter().position(|other| *other == module) {
            return Some([&path[start..], &[module]].concat());
        }
        if !done.insert(module) {
            return None;
        }
        path.push(module);
        let named = arrows.get(module).into_iter().flatten();
        let found = named.into_iter().find_map(|(next, _)| visit(arrows, next, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    let found =
        arrows.keys().find_map(|module| visit(arrows, module, &mut Vec::new(), &mut done))?;
    let steps = found
        .windows(2)
        .map(|pair| format!("{} → {} ({})", pair[0], pair[1], arrows[pair[0]][pair[1]].display()));
    Some(steps.collect::<Vec<_>>().join(", "))
}

#[test]
fn modules_have_no_circle() {
    let arrows = arrows(&sources());
    assert!(arrows.len() > 20 && arrows["nn"].contains_key("param"), "{arrows:?}");
    assert_eq!(circle(&arrows), None);
}

/// Every module has a line of the drawing, and names none of its own line or above.
#[test]
fn the_stack_is_as_drawn() {
    let document = fs::read_to_string(Path::new(WORKSPACE).join("docs/architecture.md")).unwrap();
    let section = document.split("\n## The stack\n").nth(1).unwrap();
    let drawing = section.split("```").nth(1).unwrap();
    let mut lines = BTreeMap::new();
    for (line, text) in drawing.lines().skip(1).enumerate() {
        let names = text.split("  #").next().unwrap_or_default().split_whitespace();
        lines.extend(names.map(|name| (name.to_owned(), line)));
    }
    let arrows = arrows(&sources());
    let drawn: BTreeSet<_> = lines.keys().collect();
    assert_eq!(arrows.keys().collect::<BTreeSet<_>>(), drawn);
    for (module, named) in &arrows {
        for (other, path) in named {
            assert!(
                lines[module] < lines[other],
                "{module} names {other}, which does not lie below it ({})",
                path.display()
            );
        }
    }
}

fn planted(files: &[(&str, &str)]) -> Option<String> {
    let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned()));
    circle(&arrows(&files.collect()))
}

#[test]
fn a_planted_circle_is_found() {
    let found = planted(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\npub use c::Thing;"),
        ("a.rs", "use super::b::{self, other};"),
        ("b/mod.rs", "mod inner;"),
        ("b/inner.rs", "pub mod deep { use super::super::super::{c::x, b}; }"),
        ("c.rs", "fn f() { crate::a::g() }"),
    ]);
    let expected = "a → b (a.rs), b → c (b/inner.rs), c → a (c.rs)";
    assert_eq!(found.as_deref(), Some(expected));
    let by_the_root = planted(&[
        ("lib.rs", "mod a;\nmod c;\npub use c::{Thing, Other};"),
        ("a.rs", "use crate::{Other as _};"),
        ("c.rs", "use crate::a::x;"),
    ]);
    assert_eq!(by_the_root.as_deref(), Some("a → c (a.rs), c → a (c.rs)"));
    let by_a_facade = planted(&[
        ("lib.rs", "mod a;\npub mod facade { pub use crate::a::{x, y}; }"),
        ("a/mod.rs", "mod b;"),
        ("a/b.rs", "use crate::facade::x;"),
    ]);
    assert_eq!(by_a_facade.as_deref(), Some("a → facade (a/b.rs), facade → a (lib.rs, facade)"));
}

#[test]
fn tests_and_comments_are_no_arrows() {
    let found = planted(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "//! See [`b`](crate::b).\nuse crate::b::x;\n#[cfg(test)]\nmod tests;"),
        ("a/tests.rs", "use crate::b;"),
        (
            "b.rs",
            "// crate::a\n#[cfg(test)]\nmod tests {\n    use crate::a::y;\n    fn f() {}\n}\nfn g() {}",
        ),
    ]);
    assert_eq!(found, None);
}
