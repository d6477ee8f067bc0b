/// Finds the first program in what `lsof -Fpc` prints: a line for each field, which begins with the field's letter.
pub(super) fn holder(text: &str) -> Option<String> {
    let field = |letter| text.lines().find_map(|line| line.strip_prefix(letter));
    let (process, name) = (field('p')?, field('c')?);
    Some(format!("{name} (process {process})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_program_is_named() {
        assert_eq!(holder("p4711\ncollama\nf3\np4712\ncother\n").as_deref(), Some("ollama (process 4711)"));
        assert_eq!(holder(""), None);
        assert_eq!(holder("p4711\n"), None);
    }
}
