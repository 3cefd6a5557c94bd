-- claim: hand out ready messages on lease, after moving back what is due
--
-- KEYS    messages ready delayed leased states claims marks marks_old seq wake dead dead_records dead_dropped
-- ARGV    call:text most:number visibility:number holder:text staying:number horizon:number deliveries:number dead_limit:number window:number retention:number lifetime:number answer_by:number
-- RETURNS deadline (0: refused), next_due (µs from now; -1: never), dropped, {id, record, attempts, error, repeated}, {id, reason of the dead, repeated}
-- INCLUDE codes number clock state marks finished bury wake due tidy earlier hand_out fade
--
-- Invariant: whatever a consumer that leaves knows of work to come, it leaves a wake-up for: one
-- that waits is woken while anything is ready or becomes due before it would look by itself.
-- The call's id is the nonce of its tokens; repeated, it gets what it got the first time. Repeated
-- for fewer, it gets the first of these for good, and the others are ready again, their attempts not
-- counted. One that the network held back until nobody waits for its answer gets nothing.

local due = claim()
fade()
return { deadline, due, dropped, reply, buried }
