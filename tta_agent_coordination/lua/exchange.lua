-- exchange: finish messages that were handled, and claim the next ones in the same step
--
-- KEYS    messages ready delayed leased states claims marks marks_old seq wake dead dead_records dead_dropped
-- ARGV    call:text most:number visibility:number holder:text staying:number horizon:number deliveries:number dead_limit:number window:number retention:number lifetime:number answer_by:number then id nonce, repeated
-- RETURNS the answers of ack; then what claim returns
-- INCLUDE codes number clock state marks finished bury wake due tidy judge acknowledge earlier hand_out fade
--
-- For workers, which do both again and again.

local ids, nonces = {}, {}
for i = 13, #ARGV, 2 do
  ids[#ids + 1], nonces[#nonces + 1] = ARGV[i], ARGV[i + 1]
end

local answers = acknowledge(now, ids, nonces)
local due = claim()
fade()
return { answers, deadline, due, dropped, reply, buried }
