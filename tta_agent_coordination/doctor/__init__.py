"""Looks at servers and at this process, and says what endangers the guarantees.

`examination` looks, `report` is what it says, `facts` what it read, `rules` how it judges that.
"""

from tta_agent_coordination.doctor.report import Finding, Report, Status

__all__ = ["Finding", "Report", "Status"]
