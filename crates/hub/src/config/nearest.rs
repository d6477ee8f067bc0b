/// Finds the known name that a mistyped one most likely meant.
///
/// The bound of a third of its length keeps the answer from being a guess.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (distance(typed, name), name));
    let (distance, name) = scored.min()?;
    (distance * 3 <= typed.chars().count().max(3)).then_some(name)
}

/// Counts the characters to insert, delete or replace (Levenshtein 1966), by one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let best = (diagonal + usize::from(from != *to)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_textbook() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("tiếng", "tiếng"), 0);
    }

    #[test]
    fn only_a_likely_meaning_is_named() {
        let known = ["server.port", "server.host"];
        assert_eq!(nearest("server.prot", known), Some("server.port"));
        assert_eq!(nearest("colour", known), None);
    }
}
