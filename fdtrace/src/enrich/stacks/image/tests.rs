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
