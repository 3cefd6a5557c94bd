-- Answers of the scripts; coordinator/inbox.py, coordinator/outbox.py and migrate/moves.py read
-- the same numbers.
local DONE, ALREADY_DONE, STALE, UNKNOWN = 1, 2, -1, -2
local STORED, DUPLICATE, UNLISTED, FULL = 1, 2, 3, -3
local MOVED, COPY, GONE, HELD, TAKEN = 1, 2, -4, -5, -6

-- How a token stands: LIVE until the message is handed out again, else how it was settled.
local LIVE, ACKED, NACKED, RELEASED, EXPIRED = 'l', 'a', 'n', 'r', 'x'

-- Scores of the ready set: nine levels of priority over 48 bits of sequence, exact below 2^53.
local LEVEL = 281474976710656

-- At most so many entries die, or go to one command, in one script: none holds the server up for
-- long.
local BATCH = 1000
