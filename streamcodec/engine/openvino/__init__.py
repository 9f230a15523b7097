"""The fast engine on CPUs: the model's steps, converted in memory from the torch module and run by OpenVINO."""
