//! Tests of the script's format: that what is written is what the contract says, and is read back.

use std::time::Duration;

use super::*;

/// The text of a time line with a header and lines.
fn written(header: &Header, lines: &[Line]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut timeline = Timeline::create(folder.path().join("t.jsonl"), header).unwrap();
    timeline.write(lines).unwrap();
    std::fs::read_to_string(timeline.path()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn header_has_the_members_of_the_contract() {
    let header = Header::new([Device::h100(0).mig(1, 0, 10_240)]).manual().absent("nvmlDeviceGetSamples");
    assert_eq!(
        written(&header, &[]),
        [concat!(
            r#"{"devices":[{"uuid":"GPU-fake-0","name":"Fake H100","memory_mib":81559,"idle_power_w":120.0,"#,
            r#""power_limit_w":700.0,"pci":"00000000:01:00.0","mig":[{"uuid":"MIG-fake-0-1-0","gi":1,"ci":0,"#,
            r#""memory_mib":10240}],"gpm":true}],"driver":"580.95.05","cuda":13000,"refresh_ms":100,"clock":"manual","#,
            r#""absent":["nvmlDeviceGetSamples"],"start_ns":0}"#
        )]
    );
}

#[test]
fn a_line_has_only_what_it_says() {
    let lines = [
        Line::at(5, 0).power_w(345.5).util(87),
        Line::at(6, 0).process(Process::new(123, 4096).uses(80, 20)),
        Line::at(7, 0).process(Process::gone(123)),
        Line::at(8, 1).xid(79),
        Line::at(9, 1).lost(true),
        Line::call(10, "nvmlDeviceGetPowerUsage").delay(Duration::from_millis(4)).returns(15).device(0),
        Line::now(11),
    ];
    assert_eq!(
        written(&Header::new([]).manual(), &lines)[1..],
        [
            r#"{"t_ns":5,"device":0,"power_w":345.5,"util":87}"#,
            r#"{"t_ns":6,"device":0,"process":{"pid":123,"memory_mib":4096,"sm":80,"mem":20}}"#,
            r#"{"t_ns":7,"device":0,"process":{"pid":123,"memory_mib":null,"sm":0,"mem":0,"gone":true}}"#,
            r#"{"t_ns":8,"device":1,"xid":79}"#,
            r#"{"t_ns":9,"device":1,"lost":true}"#,
            r#"{"t_ns":10,"device":0,"call":"nvmlDeviceGetPowerUsage","delay_us":4000,"return":15}"#,
            r#"{"now_ns":11}"#,
        ]
    );
}

#[test]
fn lines_are_read_back_as_they_were_written() {
    let violation = Violation { power_ns: 5_000_000, ..Violation::default() };
    let lines = [
        Line::at(1, 0).violation(violation).ecc(1).gpm(2, 55.5).temperature(65).throttle_reasons(4),
        Line::at(2, 0).processes(vec![Process::hidden(7).kind(Kind::Mps).on_mig(1)]).late_processes(vec![]),
        Line::call(3, "*").lock().field(83),
    ];
    let header = Header::new([Device::h100(0).nvlinks(18)]);
    let text = written(&header, &lines);
    assert_eq!(serde_json::from_str::<Header>(&text[0]).unwrap(), header);
    for (text, line) in text[1..].iter().zip(&lines) {
        assert_eq!(&serde_json::from_str::<Line>(text).unwrap(), line);
    }
}

#[test]
fn a_header_needs_only_devices() {
    let header: Header = serde_json::from_str(r#"{"devices":[]}"#).unwrap();
    assert_eq!((header.refresh_ms, header.clock, header.start_ns), (100, Clock::Monotonic, None));
}

#[test]
fn a_misspelt_member_is_an_error() {
    assert!(serde_json::from_str::<Line>(r#"{"t_ns":1,"device":0,"power":300}"#).is_err());
}

#[test]
fn two_writers_append_to_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Timeline::create(folder.path().join("t.jsonl"), &Header::new([])).unwrap();
    let mut second = Timeline::open(first.path()).unwrap();
    first.write(&[Line::now(1)]).unwrap();
    second.write(&[Line::now(2)]).unwrap();
    first.write(&[Line::now(3)]).unwrap();
    let text = std::fs::read_to_string(first.path()).unwrap();
    assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), [r#"{"now_ns":1}"#, r#"{"now_ns":2}"#, r#"{"now_ns":3}"#]);
}
