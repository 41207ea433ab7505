//! The programs of the guide: each page is the documentation of a module, so that its programs are documentation tests.

macro_rules! pages {
    ($name:ident = $($module:ident: $page:literal,)*) => {
        /// Files by their paths from `src`, and what is in them.
        #[cfg(test)]
        const $name: &[(&str, &str)] = &[$(($page, include_str!(concat!("src/", $page)))),*];

        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("src/", $page))]
            pub mod $module {}
        )*
    };
}

pages! {
    PAGES =
    any_model: "any-model.md",
    audit: "audit.md",
    coming_from_candle: "coming-from/candle.md",
    coming_from_hyper_nn: "coming-from/hyper-nn.md",
    coming_from_hypnettorch: "coming-from/hypnettorch.md",
    coming_from_peft: "coming-from/peft.md",
    conditions: "conditions.md",
    derivatives: "derivatives.md",
    devices: "devices.md",
    files: "files.md",
    first: "first.md",
    generators: "generators.md",
    inside: "inside.md",
    introduction: "introduction.md",
    language_models: "language-models.md",
    own_parts: "own-parts.md",
    parallel: "parallel.md",
    pretrained: "pretrained.md",
    project: "project.md",
    reference_attributes: "reference/attributes.md",
    reference_errors: "reference/errors.md",
    reference_features: "reference/features.md",
    reference_keys: "reference/keys.md",
    reference_layers: "reference/layers.md",
    serving: "serving.md",
    tasks: "tasks.md",
    training: "training.md",
    weight_sets: "weight-sets.md",
}

// Documents of the repository that are pages as they are.
pages! {
    DOCUMENTS =
    sequences: "../../sequences.md",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::{DOCUMENTS, PAGES};

    const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

    /// Neither the table of contents nor a page that is one of the repository's documents.
    fn is_page(text: &str) -> bool {
        !text.starts_with("# Summary") && !text.starts_with("{{#include ")
    }

    fn pages_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
        let mut pages = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                pages.extend(pages_below(&path)?);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
        Ok(pages)
    }

    #[test]
    fn every_page_is_tested() -> std::io::Result<()> {
        let mut found = BTreeSet::new();
        for path in pages_below(Path::new(SOURCES))? {
            if is_page(&fs::read_to_string(&path)?) {
                let relative = path.strip_prefix(SOURCES).unwrap_or(&path);
                found.insert(relative.to_string_lossy().replace('\\', "/"));
            }
        }
        let listed: BTreeSet<_> = PAGES.iter().map(|(page, _)| (*page).to_owned()).collect();
        assert_eq!(found, listed);
        Ok(())
    }

    /// Programs are compiled and run, or must not compile; what is shown as `rs` is a file of the repository, which is
    /// compiled where it lies.
    #[test]
    fn no_program_is_left_out() {
        let kinds = ["rust", "rust,compile_fail", "rust,standalone_crate"];
        for (page, text) in PAGES.iter().chain(DOCUMENTS) {
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                let Some(kind) = line.strip_prefix("```").filter(|kind| kind.starts_with('r'))
                else {
                    continue;
                };
                let is_file = kind == "rs"
                    && lines.next().is_some_and(|next| next.starts_with("{{#include "));
                assert!(is_file || kinds.contains(&kind), "{page} has a program as ```{kind}");
            }
        }
    }

    #[test]
    fn every_page_is_in_the_table_of_contents() {
        let contents = include_str!("src/SUMMARY.md");
        for (page, _) in PAGES {
            assert!(contents.contains(&format!("({page})")), "{page} is not in SUMMARY.md");
        }
    }
}
