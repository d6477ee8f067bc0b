//! Finds stop strings in text that comes in parts.

/// The stop strings of one text and how far each of them has been seen.
#[derive(Clone, Debug)]
pub(super) struct Stops {
    seekers: Vec<Seeker>,
    /// Text that may be the beginning of a stop string.
    held: String,
    is_stopped: bool,
}

/// What is to be done with text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Give this out, which need not be what was fed last.
    Goes(String),
    /// Give this out and end: a stop string follows it.
    Stops(String),
}

/// Looks for one string with the automaton of Knuth, Morris and Pratt: a step for every byte, whatever came before.
#[derive(Clone, Debug)]
struct Seeker {
    wanted: Vec<u8>,
    /// For each length of a match, the length of the next shorter one that ends at the same byte.
    shorter: Vec<usize>,
    /// How many bytes of `wanted` the text ends with.
    matched: usize,
}

impl Stops {
    pub(super) fn new(stop: &[String]) -> Self {
        let seekers = stop.iter().filter(|stop| !stop.is_empty()).map(|stop| Seeker::new(stop)).collect();
        Self { seekers, held: String::new(), is_stopped: false }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Takes more text. The stop string that is complete first counts, of several the one that starts first.
    pub(super) fn feed(&mut self, text: &str) -> Verdict {
        if self.is_stopped {
            return Verdict::Stops(String::new());
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (idx, byte) in text.bytes().enumerate() {
            let complete = self.seekers.iter_mut().filter_map(|seeker| seeker.step(byte));
            if let Some(len) = complete.max() {
                self.is_stopped = true;
                let mut text = std::mem::take(&mut self.held);
                // A match lies in what is held: all that could begin one was kept back.
                text.truncate(before + idx + 1 - len);
                return Verdict::Stops(text);
            }
        }
        let waits = self.seekers.iter().map(|seeker| seeker.matched).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - waits);
        Verdict::Goes(std::mem::replace(&mut self.held, rest))
    }

    /// Gives out what is held, when no more text comes. What comes nevertheless is another text.
    pub(super) fn release(&mut self) -> String {
        self.seekers.iter_mut().for_each(|seeker| seeker.matched = 0);
        std::mem::take(&mut self.held)
    }
}

impl Seeker {
    fn new(wanted: &str) -> Self {
        let wanted = wanted.as_bytes().to_vec();
        let mut shorter = vec![0; wanted.len() + 1];
        let mut matched = 0;
        for end in 1..wanted.len() {
            while matched > 0 && wanted[matched] != wanted[end] {
                matched = shorter[matched];
            }
            if wanted[matched] == wanted[end] {
                matched += 1;
            }
            shorter[end + 1] = matched;
        }
        Self { wanted, shorter, matched: 0 }
    }

    /// Takes a byte; returns the length of the string if it is complete.
    fn step(&mut self, byte: u8) -> Option<usize> {
        while self.matched > 0 && self.wanted[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        if self.wanted[self.matched] == byte {
            self.matched += 1;
        }
        (self.matched == self.wanted.len()).then_some(self.matched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in parts of every length and checks what comes out, and that nothing comes late.
    #[track_caller]
    fn check(stop: &[&str], text: &str, expected: &str) {
        let stop: Vec<String> = stop.iter().map(|&stop| stop.to_owned()).collect();
        let letters: Vec<char> = text.chars().collect();
        for len in 1..=letters.len() {
            let mut stops = Stops::new(&stop);
            let mut out = String::new();
            for part in letters.chunks(len) {
                match stops.feed(&part.iter().collect::<String>()) {
                    Verdict::Goes(text) | Verdict::Stops(text) => out.push_str(&text),
                }
            }
            out.push_str(&stops.release());
            assert_eq!(out, expected, "in parts of {len}");
            assert_eq!(stops.is_stopped(), expected != text);
        }
    }

    #[test]
    fn a_stop_string_ends_the_text_wherever_it_is_cut() {
        check(&["END"], "an END of it", "an ");
        check(&["END"], "ENEND", "EN");
        check(&["END"], "EN", "EN");
        check(&["aab"], "aaab", "a");
        check(&["ạ\n", "é"], "chaọ ạ é", "chaọ ạ ");
        check(&["\n\nUser:", "\n\n"], "a\n\nUser: b", "a");
        check(&["abcd", "bc"], "abcd", "a");
        check(&["xb", "aaxb"], "aaaxb", "a");
        check(&[""], "text", "text");
        check(&[], "text", "text");
    }

    #[test]
    fn only_what_may_be_a_stop_string_waits() {
        let mut stops = Stops::new(&["END".to_owned()]);
        assert_eq!(stops.feed("so E"), Verdict::Goes("so ".to_owned()));
        assert_eq!(stops.feed("N"), Verdict::Goes(String::new()));
        assert_eq!(stops.feed("OUGH"), Verdict::Goes("ENOUGH".to_owned()));
        assert_eq!(stops.feed(" EN"), Verdict::Goes(" ".to_owned()));
        assert_eq!(stops.release(), "EN");
        assert_eq!(stops.feed("D"), Verdict::Goes("D".to_owned()));
        assert_eq!(stops.feed(" END of"), Verdict::Stops(" ".to_owned()));
        assert_eq!(stops.feed("it"), Verdict::Stops(String::new()));
    }
}
