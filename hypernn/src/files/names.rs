//! Names of tensors in messages: lists, near names, and a prefix that all have in common.

use std::borrow::Cow;

/// `a`, `b` and 3 more: the first of `len` names.
pub(crate) fn list(names: &[impl AsRef<str>], len: usize) -> String {
    let quoted: Vec<_> =
        names.iter().map(|name| format!("`{}`", printable(name.as_ref()))).collect();
    let (more, quoted) = (len.saturating_sub(quoted.len()), quoted);
    match (more, &quoted[..]) {
        (_, []) => "none".to_owned(),
        (0, [only]) => only.clone(),
        (0, [first @ .., last]) => format!("{} and {last}", first.join(", ")),
        (more, all) => format!("{} and {more} more", all.join(", ")),
    }
}

/// A text from a file as it may be shown: what a terminal would take as a command is written out.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_command = |c: char| c.is_control() && c != '\n';
    if !text.contains(is_command) {
        return Cow::Borrowed(text);
    }
    let shown =
        |c: char| if is_command(c) { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// The three names next to a pattern, in which `*` stands for any characters.
pub(crate) fn nearest<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> String {
    let pattern: Vec<char> = pattern.chars().collect();
    let mut ranked: Vec<_> = names.map(|name| (distance(&pattern, name), name)).collect();
    ranked.sort_unstable();
    ranked.dedup();
    let near: Vec<_> = ranked.into_iter().take(3).map(|(_, name)| name).collect();
    list(&near, near.len())
}

/// The number of characters to change, to leave out or to add until the pattern matches.
fn distance(pattern: &[char], name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for letter in pattern {
        let step = usize::from(*letter != '*');
        let mut next = vec![row[0] + step];
        for (at, other) in name.iter().enumerate() {
            let changed = row[at] + if letter == other { 0 } else { step };
            next.push(changed.min(row[at + 1] + step).min(next[at] + step));
        }
        row = next;
    }
    row[name.len()]
}

/// What most of the wanted names need in front to be among the names that are there, if one prefix helps.
pub(crate) fn prefix<'a>(wanted: &[&'a str], there: &'a [String]) -> Option<String> {
    let mut prefixes: Vec<_> = wanted.iter().flat_map(|name| in_front_of(name, there)).collect();
    prefixes.sort_unstable();
    let counted = prefixes.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0]));
    counted.max().map(|(_, prefix)| prefix.to_owned())
}

fn in_front_of<'a>(name: &'a str, there: &'a [String]) -> impl Iterator<Item = &'a str> {
    let front =
        move |full: &'a String| full.strip_suffix(name).filter(|front| front.ends_with('.'));
    there.iter().filter_map(front)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        assert_eq!(list(&[""; 0], 0), "none");
        assert_eq!(list(&["a"], 1), "`a`");
        assert_eq!(list(&["a", "b", "c"], 3), "`a`, `b` and `c`");
        assert_eq!(list(&["a", "b"], 7), "`a`, `b` and 5 more");
    }

    #[test]
    fn near_names() {
        let names = ["layers.0.weight", "layers.0.bias", "head.weight", "head.bias"];
        let near = |pattern| nearest(pattern, names.into_iter());
        assert_eq!(near("layer.*.bias"), "`layers.0.bias`, `head.bias` and `layers.0.weight`");
        assert_eq!(near("heads.weight").split(',').next(), Some("`head.weight`"));
        let none: [&str; 0] = [];
        assert_eq!(nearest("x", none.into_iter()), "none");
    }

    #[test]
    fn distances() {
        let distance = |pattern: &str, name| distance(&pattern.chars().collect::<Vec<_>>(), name);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("abc", "abd"), 1);
        assert_eq!(distance("a*c", "axyzc"), 0);
        assert_eq!(distance("*", "anything"), 0);
        assert_eq!(distance("a*", "b"), 1);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn prefixes() {
        let there = ["module.a.w", "module.b.w", "x.a.w", "c"].map(str::to_owned);
        assert_eq!(prefix(&["a.w", "b.w"], &there).as_deref(), Some("module."));
        assert_eq!(prefix(&["c"], &there), None);
        assert_eq!(prefix(&["w"], &["xw".to_owned()]), None);
    }
}
