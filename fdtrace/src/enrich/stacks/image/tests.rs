use std::cell::Cell;

use super::*;

#[test]
fn the_own_program_is_mapped_from_its_file() {
    let mut modules = Modules::default();
    let image = Image::read(1, std::process::id(), None, &mut modules).unwrap();
    let here = the_own_program_is_mapped_from_its_file as fn() as usize as u64;
    let mapping = image.mapping(here).unwrap();
    let module = mapping.module.as_ref().unwrap();
    let own = std::env::current_exe().unwrap();
    assert_eq!(*module.path, *own.to_str().unwrap());
    assert_eq!(mapping.bias, mapping.start - mapping.offset);
    // Another program of the same process would have another number.
    assert!(Image::read(1, std::process::id(), Some(image.id), &mut modules).is_some());
    assert!(Image::read(1, std::process::id(), Some(image.id + 16), &mut modules).is_none());
}

#[test]
fn mappings_of_no_elf_file_have_none_and_the_others_their_bias() {
    let mut modules = Modules::default();
    let mut image = Image::read(1, std::process::id(), None, &mut modules).unwrap();
    let files = image.modules().len();
    assert!(files > 0 && files <= image.mappings.len());
    let biases: Vec<_> = (0..image.mappings.len() as u64)
        .map(|number| (number > 0).then_some(number))
        .collect();
    image.take(&biases);
    assert!(image.mappings[0].module.is_none());
    assert!(
        (0..)
            .zip(&image.mappings)
            .all(|(number, mapping)| mapping.bias == number)
    );
}

/// A process that ends, or executes another program, between two reads of it has maps that are short or another's.
#[test]
fn what_a_process_had_mapped_when_it_ended_is_not_known() {
    let looks = Cell::new(0);
    let read = |before: u64, after: Option<u64>, wanted| {
        looks.set(0);
        let executes = || {
            looks.set(looks.get() + 1);
            if looks.get() == 1 {
                Some(before)
            } else {
                after
            }
        };
        of_one(wanted, executes, || Some("maps"))
    };
    assert_eq!(read(16, Some(16), None), Some((16, "maps")));
    assert_eq!(read(16, Some(16), Some(16)), Some((16, "maps")));
    assert_eq!(read(16, None, Some(16)), None, "it has ended");
    assert_eq!(
        read(16, Some(32), None),
        None,
        "it has executed another one"
    );
    assert_eq!(read(32, Some(32), Some(16)), None, "it is another one");
}
