-- ack: finish messages that were handled
--
-- KEYS    messages ready leased states claims marks marks_old seq wake
-- ARGV    call:text window:number retention:number then id nonce, repeated
-- RETURNS for each token DONE, ALREADY_DONE, STALE or UNKNOWN
-- INCLUDE codes number clock state marks finished judge acknowledge tidy

local ids, nonces = {}, {}
for i = 4, #ARGV, 2 do
  ids[#ids + 1], nonces[#nonces + 1] = ARGV[i], ARGV[i + 1]
end

local answers = acknowledge(now_us(), ids, nonces)
tidy()
return answers
