use proptest::prelude::*;

use super::*;

fn told(paths: &[&str]) -> Vec<(u32, u32, String)> {
    let folders = Folders::of(paths.iter().map(|path| path.as_bytes()));
    assert_eq!(folders.looked_at as usize, paths.len());
    let text = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
    let folders = folders.most.into_iter().map(|folder| {
        let path = text(&folder.path);
        let place = match folder.pattern {
            Some(pattern) => format!("{path}/{}", text(&pattern)),
            None => path,
        };
        (folder.count, folder.deleted, place)
    });
    folders.collect()
}

fn numbered(count: usize, path: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(path).collect()
}

fn all(lists: &[Vec<String>]) -> Vec<&str> {
    lists.iter().flatten().map(String::as_str).collect()
}

#[test]
fn the_deepest_folder_of_all_is_told() {
    let spool = [numbered(117, |n| format!("/var/spool/x/msg{n} (deleted)"))];
    let expected = [(117, 117, "/var/spool/x/msg*".to_owned())];
    assert_eq!(told(&all(&spool)), expected);
    let layers = [numbered(50, |n| {
        format!("/var/lib/docker/overlay2/{n:x}/diff")
    })];
    let expected = [(50, 0, "/var/lib/docker/overlay2".to_owned())];
    assert_eq!(told(&all(&layers)), expected);
}

#[test]
fn an_ending_is_told_where_it_says_more() {
    let tables = numbered(184, |n| format!("/var/lib/mysql/shop/t{n}_a.ibd"));
    let others = numbered(3, |n| format!("/var/lib/mysql/shop/{n}.frm"));
    let told_of = told(&all(&[tables.clone(), others]));
    assert_eq!(told_of[0], (184, 0, "/var/lib/mysql/shop/*.ibd".to_owned()));
    let as_many = numbered(170, |n| format!("/var/lib/mysql/shop/{n}_b.frm"));
    let told_of = told(&all(&[tables, as_many]));
    assert_eq!(told_of, [(354, 0, "/var/lib/mysql/shop".to_owned())]);
}

#[test]
fn numbers_and_hidden_names_are_no_endings() {
    let rotated = [numbered(20, |n| format!("/log/app.log.{n}"))];
    assert_eq!(told(&all(&rotated)), [(20, 0, "/log/app.log.*".to_owned())]);
    let hidden = [numbered(20, |n| format!("/d/{n}/.cache"))];
    assert_eq!(told(&all(&hidden)), [(20, 0, "/d".to_owned())]);
}

#[test]
fn many_in_one_folder_are_not_hidden_by_a_few_beside_it() {
    let many = numbered(900, |n| format!("/srv/data/a/{n}"));
    let few = numbered(100, |n| format!("/srv/data/b/{n}"));
    let expected = [
        (900, 0, "/srv/data/a".to_owned()),
        (100, 0, "/srv/data/b".to_owned()),
    ];
    assert_eq!(told(&all(&[many, few])), expected);
}

#[test]
fn a_file_made_again_and_again_is_its_path() {
    let again = [
        vec!["/log/a.log (deleted)".to_owned(); 30],
        vec!["/log/a.log".to_owned()],
    ];
    let folders = Folders::of(all(&again).iter().map(|path| path.as_bytes()));
    let only = folders.only().unwrap();
    assert!(only.is_file);
    assert_eq!((&*only.path, only.deleted), (&b"/log/a.log"[..], 30));
}

#[test]
fn what_is_no_path_is_in_no_folder() {
    assert_eq!(told(&["mnt:[4026531841]", "net:[1]", "a/b", "a/b", ""]), []);
    assert_eq!(told(&["/a", "/b", "/c", "/d"]), [], "the root says nothing");
}

proptest! {
    #[test]
    fn any_paths_do(paths in prop::collection::vec("[/a-c.\u{e9}]{0,12}( \\(deleted\\))?", 0..60)) {
        let folders = Folders::of(paths.iter().map(String::as_bytes));
        let told: u32 = folders.most.iter().map(|folder| folder.count).sum();
        prop_assert!(told <= folders.looked_at);
        prop_assert!(folders.most.len() <= FOLDERS_MAX);
        for folder in &folders.most {
            prop_assert!(folder.deleted <= folder.count && folder.count as usize >= FILES_MIN);
            prop_assert!(folder.path.len() > 1);
        }
    }
}

#[test]
fn deep_and_long_paths_do() {
    let paths: Vec<_> = (0..1_024)
        .map(|n| format!("{}/{n}", "/a".repeat(2_000)))
        .collect();
    let folders = Folders::of(paths.iter().map(String::as_bytes));
    assert_eq!(folders.most[0].count, 1_024);
}
