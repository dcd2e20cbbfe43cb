use super::*;

fn patient(cause: Option<Cause>, used: Option<u32>) -> Patient {
    Patient {
        files: 1,
        tid: 1,
        tgid: 1,
        soft: 64,
        cause,
        used,
    }
}

#[test]
fn the_table_is_what_has_run_out_where_it_is_full_or_has_one_number_left() {
    let soft = Some(Cause::RlimitNofile);
    let cases = [
        (soft, Some(64), true),
        (soft, Some(63), true),
        (soft, Some(62), false),
        (soft, Some(3), false),
        (soft, None, true),
        (Some(Cause::FileMax), Some(64), false),
        (None, Some(52), true),
    ];
    for (cause, used, wanted) in cases {
        let patient = patient(cause, used);
        assert_eq!(patient.is_about_table(), wanted, "{patient:?}");
    }
}
