"""The paper's tables as data: as its text says, and each row with its recipe."""

from __future__ import annotations

from tf_levelset.reporting.published import COLUMNS, TABLES
from tf_levelset.training.recipe import LOSSES
from tf_levelset.training.recipes import RECIPES

BY_NUMBER = {table.number: table for table in TABLES}


def test_the_gains_that_the_paper_names() -> None:
    # Section 4.4.1: FCN-32s with the loss is 0.4 above FCN-8s without (68.9, 68.5);
    # 4.4.2: LargeFOV gains about 4 %, ResNet101 about 1 %; 4.6: 1.4 above the baseline,
    # LMP 1.2.
    first = {row.title: row.published for row in BY_NUMBER[1].rows}
    fcn32, fcn8 = first["FCN-32s-ResNet101"], first["FCN-8s-ResNet101"]
    assert round(fcn32["ls"] - fcn8["ce"], 1) == 0.4
    assert round(fcn32["ls"] - fcn32["ce"], 1) == 3.8
    largefov = first["DeepLab-LargeFOV"]
    assert round(largefov["ls"] - largefov["ce"], 1) == 3.9
    losses = BY_NUMBER[5].rows[0].published
    assert round(losses["ls"] - losses["ce"], 1) == 1.4
    assert round(losses["lmp"] - losses["ce"], 1) == 1.2


def test_the_speed_ups_of_table_4() -> None:
    # ×10.8 and ×15.4; ×5.8 and ×8.4.
    ratios = []
    for row in BY_NUMBER[4].rows:
        assert row.seconds is not None
        ratios += [row.seconds[f"ce+crf{n}"] / row.seconds["ls"] for n in (5, 10)]
    assert [int(10 * ratio) / 10 for ratio in ratios] == [10.8, 15.4, 5.8, 8.3]


def test_every_row_has_a_recipe_with_its_losses() -> None:
    for table in TABLES:
        for row in table.rows:
            recipe = RECIPES[row.recipe]
            columns = {column.split("+")[0] for column in table.columns}
            assert columns <= set(recipe.losses), row.recipe
            assert columns <= set(LOSSES)
            assert set(row.published) <= set(table.columns) <= set(COLUMNS)
