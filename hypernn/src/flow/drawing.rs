//! Texts in drawings for Mermaid and Graphviz.

/// A text in a label of Mermaid's, in which some signs are markup.
pub(crate) fn for_mermaid(text: &str) -> String {
    let escaped = text.replace('#', "#35;").replace('"', "#quot;");
    escaped.replace('<', "#lt;").replace('>', "#gt;")
}

/// A string of Graphviz's.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", escaped.replace('\n', "\\n"))
}
