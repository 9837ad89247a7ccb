"""Predictions of the files of a split have the errors that evaluation measures, view by view: `tests/agreement.py`."""

import pytest
from agreement import compare, write_files
from configs import typed


@pytest.mark.parametrize('views, mirror', [('center', False), ('ten', False), ('ten', True)])
def test_predicted_files_have_the_errors_of_evaluation(run, views, mirror, tmp_path):
    fields, workdir = run
    config = typed(fields).replace(**{'data.mirror': mirror})
    files = tmp_path / 'files'
    files.mkdir()
    labels = write_files(config, 'validation', files)
    measured, predicted = compare(config, str(workdir), views, 'validation', files, labels)
    assert measured == predicted and 0 < measured['top1_error'] < 0.9
