//! Dates as Python's `strftime` writes them in the C locale.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use minijinja::{Error, ErrorKind};

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// The last second of the year 9999, after which years have five digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// Writes `now`, in UTC, as `format` says: `%d %B %Y`.
///
/// Checked against Python in `fixtures/templates/expected.json`.
///
/// # Errors
/// If the format has a directive that does not exist.
pub(super) fn format(now: SystemTime, format: &str) -> Result<String, Error> {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST_SECOND);
    let date = Date::at(seconds);
    let mut text = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            text.push(char);
            continue;
        }
        // `%-d` writes a number without what fills it up.
        match chars.next() {
            Some('-') => {
                let mut filled = String::new();
                date.write(chars.next(), &mut filled)?;
                let bare = filled.trim_start_matches(['0', ' ']);
                text.push_str(if bare.is_empty() && !filled.is_empty() { "0" } else { bare });
            }
            directive => date.write(directive, &mut text)?,
        }
    }
    Ok(text)
}

/// A second of the proleptic Gregorian calendar.
struct Date {
    year: u64,
    /// From 1.
    month: u64,
    /// From 1.
    day: u64,
    /// From 1 on the first of January.
    day_of_year: u64,
    /// From 0 on Sunday.
    weekday: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    fn at(seconds: u64) -> Self {
        let days = seconds / SECONDS_PER_DAY;
        let second = seconds % SECONDS_PER_DAY;
        let mut year = 1970;
        let mut day_of_year = days;
        while day_of_year >= days_in_year(year) {
            day_of_year -= days_in_year(year);
            year += 1;
        }
        let mut month = 1;
        let mut day = day_of_year;
        while day >= days_in_month(year, month) {
            day -= days_in_month(year, month);
            month += 1;
        }
        Self {
            year,
            month,
            day: day + 1,
            day_of_year: day_of_year + 1,
            // The first of January 1970 was a Thursday.
            weekday: (days + 4) % 7,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn write(&self, directive: Option<char>, text: &mut String) -> Result<(), Error> {
        let weekday = WEEKDAYS[self.weekday as usize];
        let month = MONTHS[self.month as usize - 1];
        let Self { year, day, hour, minute, second, .. } = self;
        let hour12 = (hour + 11) % 12 + 1;
        let monday = (self.weekday + 6) % 7;
        let written = match directive {
            Some('a') => write!(text, "{:.3}", weekday),
            Some('A') => write!(text, "{weekday}"),
            Some('b' | 'h') => write!(text, "{month:.3}"),
            Some('B') => write!(text, "{month}"),
            Some('c') => {
                write!(text, "{weekday:.3} {month:.3} {day:2} {hour:02}:{minute:02}:{second:02} {year}")
            }
            Some('C') => write!(text, "{:02}", year / 100),
            Some('d') => write!(text, "{day:02}"),
            Some('D' | 'x') => write!(text, "{:02}/{day:02}/{:02}", self.month, year % 100),
            Some('e') => write!(text, "{day:2}"),
            Some('f') => write!(text, "000000"),
            Some('F') => write!(text, "{year}-{:02}-{day:02}", self.month),
            Some('H') => write!(text, "{hour:02}"),
            Some('I') => write!(text, "{hour12:02}"),
            Some('j') => write!(text, "{:03}", self.day_of_year),
            Some('k') => write!(text, "{hour:2}"),
            Some('l') => write!(text, "{hour12:2}"),
            Some('m') => write!(text, "{:02}", self.month),
            Some('M') => write!(text, "{minute:02}"),
            Some('n') => writeln!(text),
            Some('p') => write!(text, "{}", if *hour < 12 { "AM" } else { "PM" }),
            Some('r') => {
                let half = if *hour < 12 { "AM" } else { "PM" };
                write!(text, "{hour12:02}:{minute:02}:{second:02} {half}")
            }
            Some('R') => write!(text, "{hour:02}:{minute:02}"),
            Some('S') => write!(text, "{second:02}"),
            Some('t') => write!(text, "\t"),
            Some('T' | 'X') => write!(text, "{hour:02}:{minute:02}:{second:02}"),
            Some('u') => write!(text, "{}", monday + 1),
            Some('U') => write!(text, "{:02}", (self.day_of_year + 6 - self.weekday) / 7),
            Some('w') => write!(text, "{}", self.weekday),
            Some('W') => write!(text, "{:02}", (self.day_of_year + 6 - monday) / 7),
            Some('y') => write!(text, "{:02}", year % 100),
            Some('Y') => write!(text, "{year}"),
            // What a date without a zone writes.
            Some('z' | 'Z') => Ok(()),
            Some('%') => write!(text, "%"),
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    "strftime_now does not know this format",
                ));
            }
        };
        written.map_err(|_| Error::from(ErrorKind::WriteFailure))
    }
}

fn days_in_year(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}
