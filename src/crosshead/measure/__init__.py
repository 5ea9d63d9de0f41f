"""The instruments: times, memory, arithmetic cost, error budgets, and what a number was measured on."""
