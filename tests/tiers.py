"""Which tests take long, by CPU seconds: the order in which files are begun, and what is left out of `-m quick`.

All tests but these are quick. With two processes, those files come first that would otherwise end long after the rest.
"""

# Longest first. All of a file, or the tests of these names: each takes more than two seconds, or starts processes.
SLOW: dict[str, tuple[str, ...]] = {
    'experiments/test_digits_run.py': (),
    'hostile/test_hostile.py': (),
    'commands/test_launch.py': (),
    'runtime/test_distributed.py': (
        'test_where_a_process_is_lost_the_other_ends_and_says_so',
        'test_they_carry_on_from_the_newest_checkpoint',
        'test_a_signal_to_one_stops_both_at_the_same_step',
        'test_only_the_first_prints',
        'test_they_leave_what_one_process_leaves',
        'test_they_evaluate_every_image_once',
        'test_other_modes_run_in_one_process',
    ),
    'runs/test_interruption.py': (),
    'test_faults.py': ('test_faults_lose_nothing',),
    'training/test_step.py': (
        'test_ten_steps_are_the_same_on_any_mesh',
        'test_ten_steps_are_the_same_in_four_parts',
        'test_initial_parameters_do_not_depend_on_the_mesh',
        'test_the_state_is_donated',
        'test_bfloat16_follows_float32',
        'test_in_parts_a_step_takes_less_memory_and_sums_the_gradients_once',
        'test_a_step_is_the_papers_update_of_the_mean_loss',
    ),
    'commands/test_start.py': (
        'test_a_mode_imports_what_it_uses_and_no_more',
        'test_a_second_start_loads_what_the_first_has_compiled',
    ),
    'data/test_prepare.py': (
        'test_killed_at_any_moment_it_carries_on_to_the_same_bytes',
        'test_killed_by_the_clock_it_gets_there_in_the_end',
        'test_real_disks_that_fill_up_at_any_moment',
        'test_disk_that_fills_up_on_the_way',
    ),
    'experiments/test_notebook.py': (
        'test_every_cell_runs_on_the_embedded_digits',
        'test_a_cell_that_fails_fails_the_notebook',
    ),
    'experiments/test_tour.py': (
        'test_every_cell_runs',
        'test_what_it_prints',
        'test_the_rule_by_hand_is_the_librarys',
        'test_a_column_switched_off_is_missed',
        'test_a_cell_that_fails_fails_the_page',
    ),
    'experiments/test_imagenet_run.py': (),
    'runs/test_checkpoint.py': ('test_a_damaged_checkpoint_is_noticed_and_the_one_before_is_taken',),
    'weights/test_import.py': (
        'test_every_mode_reads_it',
        'test_fine_tuning_begins_from_it',
        'test_columns_on_two_devices_compute_the_same',
        'test_caffe_in_both_versions',
        'test_our_own_networks_come_back',
        'test_our_own_onnx_models_come_back',
    ),
    'experiments/test_ablations.py': (),
    'commands/test_features.py': (),
    'commands/test_inspect.py': (),
    'commands/test_evaluate.py': (),
    'commands/test_export.py': (),
    'commands/test_demo.py': (),
    'weights/test_channels_first.py': ('test_random_tables_of_layers', 'test_our_experiments_on_photographs'),
    'commands/test_study.py': (),
    'experiments/test_networks_2012.py': ('test_it_learns',),
    'commands/test_profile.py': (),
    'model/test_columns.py': (
        'test_columns_on_one_device_exchange_nothing',
        'test_each_device_holds_its_own_columns_kernels_and_velocity',
        'test_the_step_exchanges_across_columns_where_the_paper_does_and_nowhere_else',
        'test_an_exchange_too_many_is_noticed',
    ),
    'evaluation/test_binary_codes.py': (
        'test_longer_codes_find_more',
        'test_codes_are_the_signs_of_the_logits',
        'test_the_loss_falls',
        'test_learned_codes_find_more_than_random_ones',
    ),
    'model/test_python_api_network.py': ('test_gradients_of_single_images_by_vmap_are_those_of_the_batch',),
    'runtime/test_imports.py': (),
    'data/test_imagenet_source.py': ('test_no_damage_of_a_byte_ends_otherwise_than_in_a_message',),
    'figures/test_figures.py': ('test_figures_of_a_run', 'test_without_images_the_predictions_are_left_out'),
    'test_api.py': (
        'test_the_network_of_a_run_is_an_ordinary_module',
        'test_predictions_and_features_are_those_of_the_command_line',
    ),
    'test_docs.py': (
        'test_the_readmes_python_runs',
        'test_the_python_guide_runs',
        'test_scikit_learn_reads_features_as_documented',
    ),
    'runs/test_old_run.py': ('test_it_resumes_with_the_same_losses', 'test_evaluation_gives_the_same_errors'),
    'runs/test_pretrained.py': (),
    'runs/test_resume.py': ('test_a_run_carries_on_on_any_mesh',),
    'commands/test_neighbors.py': (),
    'commands/test_predictions_agree.py': (),
    'runtime/test_streams.py': (),
    'commands/test_compare.py': ('test_real_runs',),
    'training/test_dispatch.py': ('test_a_step_that_takes_much_memory_waits_for_the_last',),
    'benchmarks/test_scale.py': ('test_costs_are_those_of_a_run_that_has_ended',),
    'model/test_alexnet.py': (
        'test_bfloat16_activations',
        'test_dropout_with_another_rate_in_training',
        'test_initialization_is_section_5s',
    ),
    'experiments/test_source_2012.py': ('test_it_learns',),
    'experiments/test_photographs_experiment.py': (
        'test_five_places_are_learned_from_images_that_are_prepared_when_first_asked_for',
    ),
    'experiments/test_relatives.py': ('test_one_weird_trick_learns_at_a_small_size',),
    'commands/test_figure1.py': ('test_the_whole_on_a_small_network',),
    'benchmarks/test_gpu_program.py': (),
}
_ORDER = {name: number for number, name in enumerate(SLOW)}


def place(item, tests):
    """Where a test's file comes in the order, and whether the test is quick."""
    file, name = item.path.relative_to(tests).as_posix(), getattr(item, 'originalname', item.name)
    names = SLOW.get(file)
    return _ORDER.get(file, len(_ORDER)), names is None or (names != () and name not in names)


def unknown(items, tests):
    """Files above that are not there, and names above of tests that a collected file does not have."""
    found = {}
    for item in items:
        found.setdefault(item.path.relative_to(tests).as_posix(), set()).add(getattr(item, 'originalname', item.name))
    gone = [file for file in SLOW if not (tests / file).exists()]
    return gone + [f'{file}::{name}' for file in SLOW.keys() & found for name in SLOW[file] if name not in found[file]]
