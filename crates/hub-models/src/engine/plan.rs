//! Which rows share the next step: decided from numbers alone.

/// What the plan needs to know of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// Tokens it has that are not computed yet; 1 once it generates.
    pub(super) pending: usize,
    /// Whether its reader has room for what the step will make.
    pub(super) is_readable: bool,
}

/// Returns how many rows each sequence contributes to the next step, in the order given.
///
/// Every sequence that generates takes part with its one row. What is left of `prefill_tokens` goes to prompts, the
/// oldest first, so that running streams keep flowing while a long prompt is read in pieces. A sequence whose reader
/// has no room waits.
pub(super) fn plan(sequences: &[View], prefill_tokens: usize) -> Vec<usize> {
    let mut budget = prefill_tokens.max(1);
    let rows = sequences.iter().map(|sequence| match sequence.pending {
        _ if !sequence.is_readable => 0,
        1 => 1,
        pending => {
            let rows = pending.min(budget);
            budget -= rows;
            rows
        }
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pending: &[usize], prefill_tokens: usize, expected: &[usize]) {
        let views: Vec<View> = pending.iter().map(|&pending| View { pending, is_readable: true }).collect();
        assert_eq!(plan(&views, prefill_tokens), expected);
    }

    #[test]
    fn streams_flow_while_a_long_prompt_is_read() {
        check(&[1, 1, 5_000], 256, &[1, 1, 256]);
    }

    #[test]
    fn the_oldest_prompt_goes_first() {
        check(&[200, 100, 1, 100], 256, &[200, 56, 1, 0]);
    }

    #[test]
    fn a_budget_of_nothing_still_moves() {
        check(&[10, 1], 0, &[1, 1]);
    }

    #[test]
    fn a_reader_without_room_waits_alone() {
        let stalled = View { pending: 1, is_readable: false };
        let flowing = View { pending: 1, is_readable: true };
        assert_eq!(plan(&[stalled, flowing], 256), [0, 1]);
    }
}
