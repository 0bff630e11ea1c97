"""The translator stands alone: it plans where neither kfp nor any project of ours is installed."""

import subprocess
import sys


def test_planning_runs_where_neither_kfp_nor_any_project_is_installed():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('kfp', 'kubernetes', 'imprint', 'pipelines')));"
        "import kedro_kfp.plan"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
