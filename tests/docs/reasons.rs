//! `docs/reference/reasons.md` explains every reason that there is, with its status.

use fender::policy::reason::Reason;

use super::Page;

#[test]
fn every_reason_is_explained_and_no_other() {
    let page = Page::read("docs/reference/reasons.md");
    let rows = page.rows("reason");
    let told: Vec<(String, String)> = rows
        .iter()
        .map(|row| {
            let [reason, status, means, to_do] = row.as_slice() else { panic!("{row:?} has not four cells") };
            assert!(!means.is_empty() && !to_do.is_empty(), "{reason} is not explained");
            (reason.trim_matches('`').to_owned(), status.clone())
        })
        .collect();
    let status = |reason: Reason| reason.status().map_or_else(|| "-".to_owned(), |status| status.to_string());
    let wanted: Vec<_> =
        Reason::ALL.into_iter().map(|reason| (reason.as_str().to_owned(), status(reason))).collect();
    assert_eq!(told, wanted);
}
