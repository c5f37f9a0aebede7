//! `taps.csv`: one line per tap and mode, for spreadsheets and data frames.

use std::io;

use mlxport_verdict::{Run, Status, TapRecord};

use crate::system::System;
use crate::text_format::clean;

/// The columns, in order. `error` and `tolerance` are relative RMS, `ratio` is error ÷ tolerance.
const COLUMNS: [&str; 12] =
    ["system", "point", "call", "kind", "mode", "shape", "dtype", "status", "error", "tolerance", "ratio", "failure"];

/// Every tap of a run as CSV (RFC 4180, a header first, in the record's order). What was not measured is an empty cell.
///
/// # Errors
/// None that memory does not give.
pub fn taps_csv(run: &Run) -> io::Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for tap in &run.taps {
        writer.write_record(cells(tap))?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn cells(tap: &TapRecord) -> [String; 12] {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:e}"));
    let shape: Vec<String> = tap.shape.iter().map(ToString::to_string).collect();
    [
        System::of(&tap.point).to_string(),
        clean(&tap.point),
        tap.call.to_string(),
        clean(&tap.kind),
        tap.mode.to_string(),
        shape.join("x"),
        clean(&tap.dtype),
        if tap.status == Status::Pass { "pass" } else { "fail" }.to_owned(),
        number(tap.metrics.as_ref().map(|metrics| metrics.rel_rms)),
        number(tap.tolerance.as_ref().map(|tolerance| tolerance.value)),
        number(tap.ratio),
        tap.failure.as_ref().map_or_else(String::new, |failure| clean(&failure.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn every_tap_is_a_line_that_reads_back_whatever_is_in_its_name() {
        let mut run = samples::failing();
        run.taps[0].point = "a,\"b\"\n<c>".to_owned();
        let text = taps_csv(&run).expect("in memory");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<_> = reader.records().map(|row| row.expect("sound")).collect();
        assert_eq!(rows.len(), run.taps.len());
        assert_eq!(&rows[0][1], "a,\"b\"\u{fffd}<c>");
        for (row, tap) in rows.iter().zip(&run.taps) {
            assert_eq!(&row[7] == "pass", tap.passed());
            assert_eq!(row[10].parse().ok(), tap.ratio);
        }
    }
}
