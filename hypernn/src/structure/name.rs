//! The name of a model that does not say its own.

use std::any::type_name;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What has been shortened. There are only as many as there are types in the program.
static SHORT: Mutex<BTreeMap<&str, &str>> = Mutex::new(BTreeMap::new());

/// The name of a type as it would be written where all is imported: `(Linear, Vec<Conv2d>)`.
pub(crate) fn short_name<T>() -> &'static str {
    let name = type_name::<T>();
    let mut known = SHORT.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(name).or_insert_with(|| Box::leak(shortened(name).into_boxed_str()))
}

/// A type's name with the last part of each path alone.
fn shortened(name: &str) -> String {
    let (mut short, mut rest) = (String::new(), name);
    while let Some(next) = rest.chars().next() {
        let word = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let after = &rest[word..];
        if word > 0 && after.starts_with("::") && after[2..].starts_with(is_segment) {
            rest = &after[2..];
        } else {
            let taken = word.max(next.len_utf8());
            short.push_str(&rest[..taken]);
            rest = &rest[taken..];
        }
    }
    short
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '#'
}

/// What a path can go on with: a name, or `{{closure}}`.
fn is_segment(c: char) -> bool {
    is_word(c) || c == '{'
}

#[cfg(test)]
mod tests {
    use super::*;

    mod inner {
        pub(super) struct Named;
        pub(super) struct Generic<T, const N: usize>(pub(super) T);
        pub(super) trait Object {}
        #[allow(non_camel_case_types)]
        pub(super) struct r#type;
    }

    use inner::{Generic, Named, Object};

    #[test]
    fn a_name_is_as_it_would_be_written() {
        assert_eq!(short_name::<Named>(), "Named");
        assert_eq!(short_name::<(Named, Vec<Named>)>(), "(Named, Vec<Named>)");
        assert_eq!(short_name::<Generic<Option<Named>, 3>>(), "Generic<Option<Named>, 3>");
        assert_eq!(short_name::<[Named; 2]>(), "[Named; 2]");
        assert_eq!(short_name::<&'static Named>(), "&Named");
        assert_eq!(short_name::<Box<dyn Object + Send>>(), "Box<dyn Object + Send>");
        assert_eq!(short_name::<fn(Named) -> Named>(), "fn(Named) -> Named");
        assert_eq!(short_name::<()>(), "()");
        assert_eq!(short_name::<inner::r#type>().trim_start_matches("r#"), "type");
        let Generic::<_, 1>(Named) = Generic(Named);
    }

    #[test]
    fn paths_into_impls_and_closures_stay_readable() {
        assert_eq!(shortened("a::b::main::{{closure}}"), "{{closure}}");
        assert_eq!(shortened("<a::B as c::D>::E"), "<B as D>::E");
        assert_eq!(shortened("a::B<'_, c::D>"), "B<'_, D>");
        assert_eq!(shortened("дом::Имя"), "Имя");
        assert_eq!(shortened("a::"), "a::");
        assert_eq!(shortened(""), "");
    }
}
