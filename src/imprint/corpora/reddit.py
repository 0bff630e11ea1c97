"""Reddit pairs in the format of MSP and DHAP: posts and what a user replied, a file a user.

Provenance: Ma et al., "One Chatbot Per Person" (DHAP), SIGIR 2021, arXiv 2108.09355, https://github.com/zhengyima/DHAP,
and Zhong et al., "Less is More" (MSP), NAACL 2022, arXiv 2204.08128; one of the data sets of MiLP. The texts are from
Reddit (or Weibo: PChatbot, SIGIR 2021, has the same format). Licence: none stated; the data are asked for at their
authors. Rows: whatever was fetched; DHAP's own demonstration has 19 users.

A line is `post, post's user, post's time, response, response's user, response's time`, with tabs between, and two more
columns that nobody documents (left out). The user is the response's, the query the post, the counterpart the post's
user. Times are seconds, in PChatbot counted from another year: order and distances are right, dates are not.

Known defects: texts are tokenised, with spaces between all tokens; a user's file can hold replies of others (each line
names its own user); deleted accounts are `[deleted]` (no user: quarantined). Users may be names, and are masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from imprint.corpora.columns import UnreadableRowError, parsed_time
from imprint.corpora.reading import READ, RawRow, Reader, decoded_lines
from imprint.corpora.records import files_of

DELETED = frozenset({"[deleted]", "[removed]", "-1"})
FIELDS = 6


class Reddit(Reader):
    """One file, or every `*.txt` and `*.tsv` below a folder."""

    def check(self) -> None:
        """Raise `CorpusError` where there is no file."""
        self._files = files_of(self.settings, ["*.txt", "*.tsv"], "*.txt or *.tsv files")

    def rows(self, counts: Counter[str]) -> Iterator[RawRow]:
        """A row a line; kinds: `replies`, `replies of deleted users`, `blank lines`, `unreadable`."""
        for place, file in enumerate(self._files, start=1):
            for number, text, problem in decoded_lines(file, "utf-8"):
                counts[READ] += 1
                where = f"file {place}:{number}"  # by its number: there are archives with files named after accounts
                if text is not None and not text.strip():
                    counts["blank lines"] += 1
                    continue
                row = self._row(text, problem, where)
                known = "replies" if row.user else "replies of deleted users"
                counts["unreadable" if row.problem else known] += 1
                yield row

    @staticmethod
    def user_of(name: str) -> str | None:
        """The account; None for a deleted one."""
        account = name.strip()
        return None if not account or account in DELETED else account

    def _row(self, text: str | None, problem: str | None, where: str) -> RawRow:
        try:
            post, asker, _, response, user, time = _fields(text, problem)
            return RawRow(
                where=where,
                source_id=where,
                task=self.task,
                user=self.user_of(user),
                time=parsed_time(time.strip()),
                query=post.strip(),
                response=response.strip() or None,
                attributes={"counterpart": person} if (person := self.user_of(asker)) else {},
            )
        except UnreadableRowError as error:
            return RawRow(where=where, source_id=where, task=self.task, problem=str(error))


def _fields(text: str | None, problem: str | None) -> list[str]:
    fields = (text or "").split("\t")
    if problem or len(fields) < FIELDS:
        raise UnreadableRowError(problem or f"the line has {len(fields)} columns between tabs, not {FIELDS} or more")
    return fields[:FIELDS]
