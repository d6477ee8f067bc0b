//! The `{% generation %}` block, which marks what an assistant said for training.

/// Rewrites `generation` blocks to blocks that the engine knows and that print the same.
///
/// In Jinja2 the block is a function of its own, so that a `set` in it ends with it; so it does in `with`. Lines keep
/// their numbers.
pub(super) fn rewrite(source: &str) -> String {
    let mut rewritten = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find('{') {
        rewritten.push_str(&rest[..start]);
        rest = &rest[start..];
        let piece = tag(rest);
        match replacement(piece) {
            Some(replaced) => rewritten.push_str(&replaced),
            None => rewritten.push_str(piece),
        }
        rest = &rest[piece.len()..];
        if is_tag_of(piece, "raw") {
            let raw = raw_body(rest);
            rewritten.push_str(raw);
            rest = &rest[raw.len()..];
        }
    }
    rewritten.push_str(rest);
    rewritten
}

/// Returns the tag at the start of `text`, delimiters included, or the brace if none starts there.
///
/// A delimiter inside a string does not end a tag, and nothing in a comment starts one.
fn tag(text: &str) -> &str {
    let end = match text.as_bytes().get(1) {
        Some(b'#') => text.find("#}").map(|end| end + 2),
        Some(b'%') => end_outside_strings(text, "%}"),
        Some(b'{') => end_outside_strings(text, "}}"),
        _ => Some(1),
    };
    // A tag that never ends is an error, which the engine reports.
    &text[..end.unwrap_or(text.len())]
}

fn end_outside_strings(text: &str, delimiter: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = 2;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if byte == open => quote = None,
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, _) if bytes[at..].starts_with(delimiter.as_bytes()) => return Some(at + delimiter.len()),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Returns what stands before the end of a `raw` block.
fn raw_body(text: &str) -> &str {
    let mut from = 0;
    while let Some(start) = text[from..].find("{%") {
        let at = from + start;
        if is_tag_of(tag(&text[at..]), "endraw") {
            return &text[..at];
        }
        from = at + 2;
    }
    text
}

fn replacement(tag: &str) -> Option<String> {
    let name = name(tag)?;
    let replaced = match name {
        "generation" => "with",
        "endgeneration" => "endwith",
        _ => return None,
    };
    Some(tag.replacen(name, replaced, 1))
}

fn is_tag_of(tag: &str, expected: &str) -> bool {
    name(tag) == Some(expected)
}

/// Returns the only word of a block tag.
fn name(tag: &str) -> Option<&str> {
    let body = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let body = body.strip_prefix(['-', '+']).unwrap_or(body);
    let body = body.strip_suffix(['-', '+']).unwrap_or(body);
    Some(body.trim())
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[track_caller]
    fn check(source: &str, expected: &str) {
        assert_eq!(rewrite(source), expected);
    }

    #[test]
    fn both_tags_with_every_whitespace_mark() {
        check("a{% generation %}b{% endgeneration %}c", "a{% with %}b{% endwith %}c");
        check("{%- generation -%}b{%+endgeneration+%}", "{%- with -%}b{%+endwith+%}");
        check("{%\n generation\n%}", "{%\n with\n%}");
    }

    #[test]
    fn words_elsewhere_stay() {
        for source in [
            "{% if generation %}generation{% endif %}",
            "{{ '{% generation %}' }}",
            "{{ \"\\\"{% generation %}\" }}",
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{% endraw %}",
            "{% set generation = 1 %}",
            "{ generation }",
        ] {
            check(source, source);
        }
    }

    #[test]
    fn text_after_raw_is_read_again() {
        check("{% raw %}{{{% endraw %}{% generation %}", "{% raw %}{{{% endraw %}{% with %}");
    }

    #[test]
    fn truncated_at_every_length_never_panics() {
        let source = "ă{%- generation -%}{{ 'ộ\\' %}' }}{# x #}{% raw %}{%{% endraw %}{% endgeneration %}";
        for end in (0..=source.len()).filter(|end| source.is_char_boundary(*end)) {
            rewrite(&source[..end]);
        }
    }
}
