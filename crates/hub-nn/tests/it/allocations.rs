//! What a step allocates.

use hub_base::Account;
use hub_nn::{
    Priority,
    executor::{ExecutorKind, Input, Output, Outputs, Segment, Want},
    state::SequenceState,
};

use super::executor::{load, tiny_llama, tokens};

#[test]
fn in_the_long_run_a_step_allocates_nothing() {
    const SEQUENCES: usize = 3;
    let mut executor = load(tiny_llama(None), &Account::unlimited(), ExecutorKind::Cpu).unwrap();
    let mut states = [(); SEQUENCES].map(|()| SequenceState::default());
    let tokens = tokens(64);
    for state in &mut states {
        executor.append(state, 64).unwrap();
    }
    let mut output = Output::default();
    let mut step = |from: usize, count: usize| {
        let rows = |state| Segment {
            input: Input::Tokens(&tokens[from..from + count]),
            state: Some(state),
            outputs: Outputs::Last,
            span: from + count,
        };
        let mut segments = states.each_mut().map(rows);
        executor.run_into(0..2, &mut segments, Want::Head, Priority::Interactive, &mut output).unwrap();
    };
    // Buffers grow to what the largest step needs.
    let first = allocation_counter::measure(|| step(0, 8));
    assert!(first.count_total > 0, "the counter counts");
    step(8, 1);
    let counted = allocation_counter::measure(|| (9..60).for_each(|from| step(from, 1)));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}
